package tmpfs

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/linux"
)

// detached mounts a new tmpfs that is attached nowhere. It lasts as long as the
// file, or until it is attached.
func detached(dir string, options map[string]string) (*os.File, error) {
	fs, err := linux.RetryValue(func() (int, error) { return unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC) })
	if err != nil {
		return nil, fmt.Errorf("make a tmpfs: %w", err)
	}
	defer unix.Close(fs)
	if err := unix.FsconfigSetString(fs, "source", "tmpfs"); err != nil { // as the job's mounts say
		return nil, fmt.Errorf("make a tmpfs: %w", err)
	}
	if err := configure(fs, options, unix.FsconfigCreate); err != nil {
		return nil, fmt.Errorf("make a tmpfs: %w", err)
	}
	attributes := unix.MOUNT_ATTR_NOSUID
	if dir != devices {
		attributes |= unix.MOUNT_ATTR_NODEV
	}
	fd, err := linux.RetryValue(func() (int, error) { return unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, attributes) })
	if err != nil {
		return nil, fmt.Errorf("mount a tmpfs: %w", err)
	}
	return os.NewFile(uintptr(fd), "tmpfs"), nil
}

// limit changes the options of a mounted tmpfs.
func limit(mount *os.File, options map[string]string) error {
	fs, err := linux.RetryValue(func() (int, error) {
		return unix.Fspick(int(mount.Fd()), "", unix.FSPICK_CLOEXEC|unix.FSPICK_EMPTY_PATH)
	})
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
