package tmpfs

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// include/uapi/linux/mount.h
const (
	fsopenCloexec  = 1
	fsmountCloexec = 1
	fspickCloexec  = 1
	fspickEmpty    = 8
)

// detached mounts a new tmpfs that is attached nowhere. It lasts as long as the
// file, or until it is attached.
func detached(dir string, options map[string]string) (*os.File, error) {
	name, err := unix.BytePtrFromString("tmpfs")
	if err != nil {
		return nil, err
	}
	fs, err := call(unix.SYS_FSOPEN, uintptr(unsafe.Pointer(name)), fsopenCloexec, 0)
	if err != nil {
		return nil, fmt.Errorf("make a tmpfs: %w", err)
	}
	defer unix.Close(fs)
	if err := configure(fs, options, unix.FsconfigCreate); err != nil {
		return nil, fmt.Errorf("make a tmpfs: %w", err)
	}
	attributes := uintptr(unix.MOUNT_ATTR_NOSUID)
	if dir != devices {
		attributes |= unix.MOUNT_ATTR_NODEV
	}
	fd, err := call(unix.SYS_FSMOUNT, uintptr(fs), fsmountCloexec, attributes)
	if err != nil {
		return nil, fmt.Errorf("mount a tmpfs: %w", err)
	}
	return os.NewFile(uintptr(fd), "tmpfs"), nil
}

// limit changes the options of a mounted tmpfs.
func limit(mount *os.File, options map[string]string) error {
	empty := [1]byte{}
	fs, err := call(unix.SYS_FSPICK, mount.Fd(), uintptr(unsafe.Pointer(&empty)), fspickCloexec|fspickEmpty)
	if err != nil {
		return err
	}
	defer unix.Close(fs)
	return configure(fs, options, unix.FsconfigReconfigure)
}

func configure(fs int, options map[string]string, apply func(int) error) error {
	for key, value := range options {
		if err := unix.FsconfigSetString(fs, key, value); err != nil {
			return fmt.Errorf("option %s=%s: %w", key, value, err)
		}
	}
	return apply(fs)
}

func call(number, a, b, c uintptr) (int, error) {
	for {
		r, _, errno := unix.Syscall(number, a, b, c)
		switch errno {
		case 0:
			return int(r), nil
		case unix.EINTR:
		default:
			return -1, errno
		}
	}
}

// retry repeats a call that a signal has cut short.
func retry(do func() error) error {
	for {
		if err := do(); err != unix.EINTR {
			return err
		}
	}
}
