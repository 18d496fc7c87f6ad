package watch

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Supported says whether this kernel can watch writes, with ErrCannot and the reason
// if not. It tries it on memory of our own.
func Supported() error {
	fd, _, errno := unix.Syscall(unix.SYS_USERFAULTFD, unix.O_CLOEXEC|unix.O_NONBLOCK|userModeOnly, 0, 0)
	if errno != 0 {
		return fmt.Errorf("%w: userfaultfd: %w", ErrCannot, errno)
	}
	w, err := newWatch(int(fd), os.Getpid())
	if err != nil {
		return err
	}
	return errors.Join(try(w), w.Close())
}

// newWatch takes over a userfaultfd of the process pid, also when it fails.
func newWatch(uffd, pid int) (*Watch, error) {
	if err := enable(uffd); err != nil {
		return nil, errors.Join(err, unix.Close(uffd))
	}
	pagemap, err := os.Open(fmt.Sprintf("/proc/%d/pagemap", pid))
	if err != nil {
		return nil, errors.Join(err, unix.Close(uffd))
	}
	return &Watch{uffd: uffd, pagemap: pagemap}, nil
}

// try watches two pages of our own: one that is written must be found, one that
// moves must be as well.
func try(w *Watch) error {
	page := os.Getpagesize()
	memory, err := unix.Mmap(-1, 0, 4*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return err
	}
	defer unix.Munmap(memory)
	for i := range 2 {
		memory[i*page] = 1
	}
	start := uint64(uintptr(unsafe.Pointer(&memory[0])))
	at := func(n int) uint64 { return start + uint64(n*page) }
	if _, err := w.Written(nil, at(0), at(2)); err != nil {
		return fmt.Errorf("%w: %w", ErrCannot, err)
	}
	memory[page] = 2
	found, err := w.Written(nil, at(0), at(2))
	if err != nil || len(found) != 1 || found[0] != (Range{at(1), at(2)}) {
		return fmt.Errorf("%w: of two pages the second was written, found were %v: %w", ErrCannot, found, err)
	}
	if err := move(at(0), at(3), uint64(page)); err != nil {
		return err
	}
	found, err = w.Written(nil, at(3), at(4))
	if err != nil || len(found) != 1 {
		return fmt.Errorf("%w: this kernel hides pages that moved (before Linux 6.13): %w", ErrCannot, err)
	}
	return nil
}

// move remaps a page over another.
func move(from, to, size uint64) error {
	_, _, errno := unix.Syscall6(unix.SYS_MREMAP, uintptr(from), uintptr(size), uintptr(size), unix.MREMAP_MAYMOVE|unix.MREMAP_FIXED, uintptr(to), 0)
	if errno != 0 {
		return fmt.Errorf("mremap: %w", errno)
	}
	return nil
}
