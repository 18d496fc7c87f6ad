package store

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/linux"
)

// openBeneath opens one regular file of a directory that is somebody else's: no link is
// followed, no mount is crossed, no pipe, device or lease is waited for.
func openBeneath(dir *os.File, name string) (*os.File, unix.Stat_t, error) {
	st, err := statBeneath(dir, name)
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG { // opening a device may do something
		err = image.ErrExtra
	}
	if err != nil {
		return nil, st, namedError("open", name, err)
	}
	fd, err := linux.Openat2(int(dir.Fd()), name, unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY, linux.Beneath)
	if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENXIO) || errors.Is(err, unix.EXDEV) { // exchanged since
		err = fmt.Errorf("%w: %w", image.ErrExtra, err)
	}
	if err != nil {
		return nil, st, namedError("open", name, err)
	}
	if err = unix.Fstat(fd, &st); err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		err = image.ErrExtra
	}
	if err == nil {
		err = unix.SetNonblock(fd, false)
	}
	if err != nil {
		return nil, st, errors.Join(namedError("open", name, err), unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), name), st, nil
}

func statBeneath(dir *os.File, name string) (st unix.Stat_t, err error) {
	err = linux.Retry(func() error { return unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW) })
	return st, err
}

func namedError(op, name string, err error) error {
	if errors.Is(err, image.ErrExtra) {
		return fmt.Errorf("%s: %w: no regular file", name, err)
	}
	return &os.PathError{Op: op, Path: name, Err: err}
}

// namesIn lists a directory by its descriptor.
func namesIn(dir *os.File) ([]string, error) {
	if _, err := dir.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	return dir.Readdirnames(-1)
}
