package linux

import (
	"os"

	"golang.org/x/sys/unix"
)

// Beneath has [Openat2] find a name in a directory that a stranger may change, and in no other
// place: it follows no link and crosses no mount.
const Beneath = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV

// mostRenames bounds how often a path is looked up anew that is renamed meanwhile, which may go
// on for ever.
const mostRenames = 1000

// Openat2 is openat2(2) with O_CLOEXEC. It tries again when a signal interrupts it, and when the
// kernel gives up because of a rename (EAGAIN). With O_NONBLOCK the latter may also be a lease, and
// the error is returned.
func Openat2(dir int, path string, flags, resolve uint64) (fd int, err error) {
	how := unix.OpenHow{Flags: flags | unix.O_CLOEXEC, Resolve: resolve}
	for range mostRenames {
		fd, err = RetryValue(func() (int, error) { return unix.Openat2(dir, path, &how) })
		if err != unix.EAGAIN || flags&unix.O_NONBLOCK != 0 {
			break
		}
	}
	return fd, err
}

// OpenFile is [Openat2] with a file for a descriptor.
func OpenFile(dir int, path string, flags, resolve uint64) (*os.File, error) {
	fd, err := Openat2(dir, path, flags, resolve)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), path), nil
}

// Statx is statx(2). flags has AT_STATX_DONT_SYNC where no file server is to be asked.
func Statx(dir int, path string, flags, mask int) (st unix.Statx_t, err error) {
	err = Retry(func() error { return unix.Statx(dir, path, flags, mask, &st) })
	return st, err
}

// Flock is flock(2).
func Flock(f *os.File, how int) error {
	return Retry(func() error { return unix.Flock(int(f.Fd()), how) })
}
