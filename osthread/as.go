package osthread

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// User is a user of the node, as file systems know it.
type User struct {
	UID    uint32   `json:"uid"`
	GID    uint32   `json:"gid"`
	Groups []uint32 `json:"groups,omitempty"`
}

// As runs fn with the user's own rights to files and no others, on a thread of its own;
// for root, as it is. Links of /proc lead the thread to what this process holds open.
func As(u User, fn func() error) error {
	if u.UID == 0 {
		return fn()
	}
	return Throwaway(func() error {
		if err := u.assume(); err != nil {
			return err
		}
		return fn()
	})
}

// assume gives this thread alone the user's identity towards file systems. The calls are
// raw, because those of package syscall change every thread.
func (u User) assume() error {
	var list unsafe.Pointer
	if len(u.Groups) > 0 {
		list = unsafe.Pointer(&u.Groups[0])
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(u.Groups)), uintptr(list), 0); errno != 0 {
		return fmt.Errorf("take the groups of user %d: %w", u.UID, errno)
	}
	if _, err := unix.SetfsgidRetGid(int(u.GID)); err != nil {
		return err
	}
	if _, err := unix.SetfsuidRetUid(int(u.UID)); err != nil {
		return err
	}
	if got, err := unix.SetfsuidRetUid(-1); err != nil || got != int(u.UID) {
		return fmt.Errorf("take the identity of user %d: the kernel refused (%v)", u.UID, err)
	}
	return dropCapabilities()
}

// dropCapabilities takes from this thread those that setfsuid(2) leaves, such as the one
// by which links of /proc lead to where other users' processes are.
func dropCapabilities() error {
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&head, &sets[0]); err != nil {
		return fmt.Errorf("capabilities: %w", err)
	}
	sets[0].Effective, sets[1].Effective = 0, 0
	if err := unix.Capset(&head, &sets[0]); err != nil {
		return fmt.Errorf("drop capabilities: %w", err)
	}
	return nil
}
