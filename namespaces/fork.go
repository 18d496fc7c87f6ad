package namespaces

import (
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// forkInit starts this program again, as PID 1 of a new pid namespace and as a
// child of our parent; it finds the descriptor config at configFD, and the report
// pipe, this program and the mounts where we have them. The program is executed by its
// descriptor: nobody knows what /proc/self/exe is in a tree that a user has a say in.
//
// Package os cannot do it: it shares its memory with the child until the execve,
// and kernels before 6.2 refuse that to a task whose children are to live in
// another time namespace (copy_process in kernel/fork.c). So this is a plain fork,
// with nothing but system calls between it and the execve: no allocation, no
// locks, and every signal blocked, because the Go runtime is not at home in the
// child.
func forkInit(args []string, config int) (pid int, err error) {
	path, err := unix.BytePtrFromString("")
	if err != nil {
		return 0, err
	}
	argv, err := syscall.SlicePtrFromStrings(args)
	if err != nil {
		return 0, err
	}
	env := []*byte{nil}
	n, errno := rawForkExec(path, &argv[0], &env[0], uintptr(config))
	runtime.KeepAlive(argv)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// sigsetSize is the size of a signal set in bytes, as rt_sigprocmask(2) wants it.
const sigsetSize = 8

//go:noinline
//go:norace
func rawForkExec(path *byte, argv, env **byte, config uintptr) (pid uintptr, errno syscall.Errno) {
	all, old := ^uint64(0), uint64(0)
	_, _, errno = syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&all)), uintptr(unsafe.Pointer(&old)), sigsetSize, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	pid, _, errno = syscall.RawSyscall6(unix.SYS_CLONE, unix.CLONE_NEWPID|unix.CLONE_PARENT|uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if errno != 0 || pid != 0 {
		syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&old)), 0, sigsetSize, 0, 0)
		return pid, errno
	}
	// The child. A copied descriptor loses its close-on-exec; one that is in its
	// place already must have it taken away.
	if config == configFD {
		syscall.RawSyscall(unix.SYS_FCNTL, config, unix.F_SETFD, 0)
	} else {
		syscall.RawSyscall(unix.SYS_DUP3, config, configFD, 0)
	}
	syscall.RawSyscall(unix.SYS_FCNTL, reportFD, unix.F_SETFD, 0)
	syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&old)), 0, sigsetSize, 0, 0)
	syscall.RawSyscall6(unix.SYS_EXECVEAT, selfFD, uintptr(unsafe.Pointer(path)), uintptr(unsafe.Pointer(argv)), uintptr(unsafe.Pointer(env)), unix.AT_EMPTY_PATH, 0)
	for {
		syscall.RawSyscall(unix.SYS_EXIT_GROUP, 125, 0, 0)
	}
}
