package checkpoint

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/procfs"
)

// waitsForVfork tells whether a thread of pid waits for a child that it has made by vfork. It cannot
// be seized. A child that was frozen before its first instruction shows the call of its parent, and
// so does a parent that will make its call again: both can be seized unless the call is a vfork.
func waitsForVfork(pid int, at procfs.Syscall) bool {
	switch at.Number {
	case unix.SYS_VFORK:
		return true
	case unix.SYS_CLONE:
		return at.First&unix.CLONE_VFORK != 0
	case unix.SYS_CLONE3:
		flags, err := cloneFlags(pid, at.First)
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
