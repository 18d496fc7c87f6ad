// Package inject stops threads of other processes before they run on, has them run system calls, and
// corrects their registers, by ptrace(2). It is for what only the thread itself can change.
//
// The threads are frozen when [Run] begins. What Linux 6.18 does, with either freezer:
//
//   - PTRACE_SEIZE and PTRACE_INTERRUPT of a frozen thread return at once. Thawed, it stops before it
//     returns to user mode: not one instruction of its program runs.
//   - In that stop, and in no other one, the kernel looks at the result of an interrupted system call
//     after the tracer has let go (arch_do_signal_or_restart). So ax = -ERESTARTNOHAND with the call's
//     number in orig_ax has the kernel decide as after a stop signal: a pending signal that has a
//     handler makes the result EINTR, else the call is made again, with the registers as they are.
//     At the exit of an injected call the same value would reach the program.
//   - A thread whose tracer ends without a word is let go and not killed.
//
// The seccomp filters of a thread do not see the injected calls (PTRACE_O_SUSPEND_SECCOMP), and
// signals wait until they are done.
package inject
