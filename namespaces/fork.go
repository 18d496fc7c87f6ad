package namespaces

import (
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// childPlan is the list of system calls of a forked child, prepared before the fork.
//
// os/exec cannot start a process in a user or time namespace of its own. Its child shares memory
// with the parent until the execve. The kernel refuses these namespaces to a task that shares
// memory (userns_install, timens_install). Before 6.2 it also refuses such a child to a parent
// whose children get another time namespace (copy_process in kernel/fork.c).
//
// So this is a plain fork, with nothing but system calls before the execve. The child allocates
// nothing, takes no lock and makes no call that could grow the stack. Every signal is blocked,
// because the child has no Go runtime.
type childPlan struct {
	steps   []childCall
	errFD   int    // descriptor that the child writes its failure to, -1 for none
	oldMask uint64 // the signals that were blocked before
}

// childCall is one system call. A child that gets another result than want exits without a report.
// It was the parent's half of a clone, or its own parent has ended.
type childCall struct {
	optional bool   // a failure for want of a file, or of the right to it, is none
	what     string // what it does, for the error
	call     uintptr
	args     [5]uintptr
	mem      [5]unsafe.Pointer // the arguments that are addresses
	want     uintptr
}

// callError is what a child writes to errFD: the number of the call and the errno.
type callError [2]uint32

// anyResult is the want of a call whose result does not matter.
const anyResult = ^uintptr(0)

func call(what string, call uintptr, args ...int) childCall {
	s := childCall{what: what, call: call}
	for i, a := range args {
		s.args[i] = uintptr(a)
	}
	return s
}

func (p *childPlan) add(s ...childCall) { p.steps = append(p.steps, s...) }

// reexec makes a child this program again, as the stage of the given name. The stage finds the
// descriptor config at configFD and the report pipe at reportFD. The descriptor self names the
// binary: in the child's mount namespace a path could lead anywhere.
func (p *childPlan) reexec(name string, config, self int) error {
	argv, err := syscall.SlicePtrFromStrings([]string{name})
	if err != nil {
		return err
	}
	// A copied descriptor loses its close-on-exec; one that is in its place already
	// must have it taken away.
	place := call("place the configuration", unix.SYS_DUP3, config, configFD, 0)
	place.want = configFD
	if config == configFD {
		place = call("keep the configuration", unix.SYS_FCNTL, config, unix.F_SETFD, 0)
	}
	again := call("start this program again", unix.SYS_EXECVEAT, self, 0, 0, 0, unix.AT_EMPTY_PATH)
	again.mem[1], again.mem[2], again.mem[3] = unsafe.Pointer(new(byte)), unsafe.Pointer(&argv[0]), unsafe.Pointer(new(*byte))
	p.add(place, call("keep the report pipe", unix.SYS_FCNTL, reportFD, unix.F_SETFD, 0), p.unblockSignals(), again)
	return nil
}

func (p *childPlan) unblockSignals() childCall {
	signals := call("let signals in", unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, 0, 0, sigsetSize)
	signals.mem[1] = unsafe.Pointer(new(uint64))
	return signals
}

// forkInit starts this program again as PID 1 of a new pid namespace, and as a child of our
// parent. The child finds this program and the mounts at the same descriptors.
func forkInit(name string, config int) (pidfd int, err error) {
	p := childPlan{errFD: -1}
	if err := p.reexec(name, config, selfFD); err != nil {
		return -1, err
	}
	var fd int32
	_, err = p.forkPidfd(unix.CLONE_NEWPID|unix.CLONE_PARENT|unix.CLONE_PIDFD, &fd)
	return int(fd), err
}

// fork makes a child that follows the plan. The calling goroutine must stay on its thread, which
// is the child's parent.
func (p *childPlan) fork(flags uintptr) (pid int, err error) { return p.forkPidfd(flags, nil) }

// forkPidfd stores a pidfd of the child if flags have CLONE_PIDFD.
func (p *childPlan) forkPidfd(flags uintptr, pidfd *int32) (pid int, err error) {
	n, errno := p.rawFork(flags|uintptr(unix.SIGCHLD), pidfd)
	runtime.KeepAlive(p)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// sigsetSize is the size of a signal set in bytes, as rt_sigprocmask(2) wants it.
const sigsetSize = 8

//go:noinline
//go:norace
func (p *childPlan) rawFork(flags uintptr, pidfd *int32) (pid uintptr, errno syscall.Errno) {
	all := ^uint64(0)
	_, _, errno = syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&all)), uintptr(unsafe.Pointer(&p.oldMask)), sigsetSize, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	pid, _, errno = syscall.RawSyscall6(unix.SYS_CLONE, flags, 0, uintptr(unsafe.Pointer(pidfd)), 0, 0, 0)
	if errno != 0 || pid != 0 {
		syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&p.oldMask)), 0, sigsetSize, 0, 0)
		return pid, errno
	}
	status := uintptr(0) // of the child, from here on
	for i := range p.steps {
		s := &p.steps[i]
		got, _, bad := syscall.RawSyscall6(s.call, s.args[0]|uintptr(s.mem[0]), s.args[1]|uintptr(s.mem[1]), s.args[2]|uintptr(s.mem[2]), s.args[3]|uintptr(s.mem[3]), s.args[4], 0)
		if s.optional && (bad == unix.ENOENT || bad == unix.ENOTDIR || bad == unix.EACCES) {
			continue
		}
		if bad != 0 {
			f := callError{uint32(i), uint32(bad)}
			syscall.RawSyscall(unix.SYS_WRITE, uintptr(p.errFD), uintptr(unsafe.Pointer(&f)), unsafe.Sizeof(f))
			status = 125
		}
		if bad != 0 || got != s.want && s.want != anyResult {
			break
		}
	}
	for {
		syscall.RawSyscall(unix.SYS_EXIT_GROUP, status, 0, 0)
	}
}
