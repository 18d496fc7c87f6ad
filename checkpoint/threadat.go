package checkpoint

import (
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// threadAt is where a thread is, as /proc/PID/task/TID/syscall tells it.
type threadAt struct {
	call          int // the system call that it is in; -1: none
	first, second uint64
	stack         uint64 // 0: the thread runs
}

// whereIs asks the kernel where a thread is.
func whereIs(pid, tid int) (threadAt, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/syscall", pid, tid))
	if err != nil {
		return threadAt{}, err
	}
	return parseSyscall(string(text)), nil
}

// parseSyscall parses /proc/PID/task/TID/syscall. It is "running", or the number of the call, its
// arguments, the stack pointer and the program counter. Outside of a call the number is -1,
// without arguments.
func parseSyscall(text string) threadAt {
	f := strings.Fields(text)
	if len(f) < 3 {
		return threadAt{call: -1}
	}
	call, err := strconv.Atoi(f[0])
	if err != nil {
		return threadAt{call: -1}
	}
	at := threadAt{call: call}
	at.stack, _ = strconv.ParseUint(f[len(f)-2], 0, 64)
	if call >= 0 && len(f) > 4 {
		at.first, _ = strconv.ParseUint(f[1], 0, 64)
		at.second, _ = strconv.ParseUint(f[2], 0, 64)
	}
	return at
}

// waitsForVfork tells whether a thread of pid waits for a child that it has made by vfork. It cannot
// be seized. A child that was frozen before its first instruction shows the call of its parent, and
// so does a parent that will make its call again: both can be seized unless the call is a vfork.
func (at threadAt) waitsForVfork(pid int) bool {
	switch at.call {
	case unix.SYS_VFORK:
		return true
	case unix.SYS_CLONE:
		return at.first&unix.CLONE_VFORK != 0
	case unix.SYS_CLONE3:
		flags, err := cloneFlags(pid, at.first)
		return err != nil || flags&unix.CLONE_VFORK != 0
	}
	return false
}

// cloneFlags reads the first field of clone3's arguments, the flags, in the memory of a process.
func cloneFlags(pid int, args uint64) (uint64, error) {
	var flags [8]byte
	local := []unix.Iovec{{Base: &flags[0]}}
	local[0].SetLen(len(flags))
	n, err := unix.ProcessVMReadv(pid, local, []unix.RemoteIovec{{Base: uintptr(args), Len: len(flags)}}, 0)
	if err == nil && n != len(flags) {
		err = unix.EFAULT
	}
	return binary.NativeEndian.Uint64(flags[:]), err
}
