// Package calls has system calls go on that a dump has interrupted. CRIU stops every thread by
// ptrace(2). The kernel has most calls made again by itself after that (ERESTARTSYS, ERESTARTNOHAND);
// others it does not, and the thread sees EINTR as after no stop that a program on its own would meet:
//
//   - what goes on by restart_syscall(2) (ERESTART_RESTARTBLOCK): poll, sleeps, futex with a limit. The
//     time that is left stays in the kernel, and CRIU makes EINTR of it;
//   - what says EINTR after any stop, see signal(7): epoll_wait, sigtimedwait, semop, read from inotify,
//     sockets with SO_RCVTIMEO or SO_SNDTIMEO.
//
// The image of a thread keeps the call's number and arguments. So the thread is set back to the call,
// unless a signal waits that has a handler: EINTR is right then.
//
// A limit that counts from the beginning of the call must shrink by what has passed. The kernel tells
// that only for a thread that sleeps: when it last left its processor (se.exec_start in
// /proc/PID/task/TID/sched), on a clock of that processor. So every thread with such a call is looked
// at right before the freeze, the clocks of the processors are compared with MONOTONIC, and after the
// freeze the number of context switches tells whether it is still the same call. A freeze wakes a thread
// for a moment: always with version 2 cgroups, with version 1 where the kernel cannot freeze it in its
// sleep (poll, epoll_wait). One more switch is that wake if the thread last ran when the freeze had begun.
// A call of which this is not known began in between, and has its whole limit left.
//
// A limit in a register is set there. A sleep becomes a poll of nothing with what is left, in
// milliseconds: its arguments lie in memory that is the program's. The thread of a program with a
// seccomp filter, which may know no poll, goes on with the rest that the kernel has written. A futex is
// waited for anew by the thread itself, before it runs on, with a limit in memory that is gone again when
// it runs: the kernel keeps the end of such a call, see [carry.Mender]. It keeps none of sigtimedwait,
// semtimedop and epoll_pwait2, whose limits begin anew.
//
// A job that runs on where it is, after a checkpoint or a move that was given up, is mended alike.
package calls
