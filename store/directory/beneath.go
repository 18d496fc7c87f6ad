package directory

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

func statAt(dir *os.File, name string, st *unix.Stat_t) error {
	return unix.Fstatat(int(dir.Fd()), name, st, unix.AT_SYMLINK_NOFOLLOW)
}

// openDirectory opens a directory for reading, with the rights of its thread: links of
// the user's lead where they may, those of /proc nowhere.
func openDirectory(path string) (*os.File, error) {
	return openedDirectory(unix.AT_FDCWD, path, 0, unix.RESOLVE_NO_MAGICLINKS)
}

// openDirectoryAt opens a directory that may be exchanged for a link or a mount meanwhile.
func openDirectoryAt(dir *os.File, name string, flags uint64) (*os.File, error) {
	return openedDirectory(int(dir.Fd()), name, flags, linux.Beneath)
}

func openedDirectory(dir int, path string, flags, resolve uint64) (*os.File, error) {
	f, err := linux.OpenFile(dir, path, unix.O_DIRECTORY|flags, resolve)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return f, nil
}

// inode tells one directory from all others for as long as that is there.
type inode struct {
	Dev uint64 `json:"dev,omitempty"`
	Ino uint64 `json:"ino,omitempty"`
}

func inodeOf(st unix.Stat_t) inode { return inode{st.Dev, st.Ino} }
