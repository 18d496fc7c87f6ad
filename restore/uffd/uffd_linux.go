package uffd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/linux"
	"github.com/migrate-hpc/migrate/stream"
)

// From linux/userfaultfd.h.
const (
	ioctlCopy     = 0xc028aa03
	ioctlZeropage = 0xc020aa04
	ioctlWake     = 0x8010aa02
	ioctlProtect  = 0xc018aa06

	msgSize      = 32
	msgPagefault = 0x12
	msgFork      = 0x13
	msgRemap     = 0x14
	msgRemove    = 0x15
	msgUnmap     = 0x16

	// readBatch is how many messages are read at once.
	readBatch = 64
)

// What the kernel says about an address space.
var (
	// errChanging (EAGAIN): a thread is changing the mappings; nothing can be
	// copied before its event has been read.
	errChanging = errors.New("address space is changing")
	// errUnregistered (ENOENT): no registered mapping holds the page.
	errUnregistered = errors.New("no mapping registered for userfaultfd")
	// ErrAlreadyMapped (EEXIST): a page which the job lacks is mapped. Its content is unknown.
	ErrAlreadyMapped = errors.New("a page of the job is there before it was brought; `migrate move --eager` brings all memory before the job runs")
	// errGone (ESRCH): the address space has ended with its last task.
	errGone = errors.New("address space is gone")
)

type uffdRange struct{ start, length uint64 }

type uffdCopy struct {
	dst, src, length, mode uint64
	copied                 int64
}

type uffdZeropage struct {
	uffdRange
	mode   uint64
	zeroed int64
}

func ioctl(fd int, req uint, arg unsafe.Pointer) unix.Errno {
	_, errno := linux.Syscall(func() (uintptr, uintptr, unix.Errno) {
		return unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(req), uintptr(arg))
	})
	return errno
}

// copyPages copies src to dst in the address space of fd and wakes who waits
// there. It returns the bytes that are in place now, also with an error. A page that
// was there already is [ErrAlreadyMapped]. A chunk may span mappings, which the kernel
// refuses, so it is tried in halves before errUnregistered is returned.
func copyPages(fd int, dst uint64, src []byte) (int64, error) {
	done, limit := int64(0), int64(len(src))
	for done < int64(len(src)) {
		n := min(limit, int64(len(src))-done)
		arg := uffdCopy{dst: dst + uint64(done), src: uint64(uintptr(unsafe.Pointer(&src[done]))), length: uint64(n)}
		errno := ioctl(fd, ioctlCopy, unsafe.Pointer(&arg))
		switch {
		case errno == 0:
			done += n
		case arg.copied > 0:
			done += arg.copied
		case errno == unix.ENOENT && n > stream.PageSize:
			limit = max(n/2/stream.PageSize, 1) * stream.PageSize
		default:
			return done, fmt.Errorf("copy a page to %#x: %w", arg.dst, uffdError(errno))
		}
	}
	return done, nil
}

// zeroPage maps the zero page at dst. A page that is there already is no error.
func zeroPage(fd int, dst uint64) error {
	arg := uffdZeropage{uffdRange: uffdRange{dst, stream.PageSize}}
	if errno := ioctl(fd, ioctlZeropage, unsafe.Pointer(&arg)); errno != 0 && errno != unix.EEXIST {
		return fmt.Errorf("map the zero page at %#x: %w", dst, uffdError(errno))
	}
	return nil
}

// wake makes the threads that wait for the page try again.
func wake(fd int, addr uint64) error {
	arg := uffdRange{addr, stream.PageSize}
	if errno := ioctl(fd, ioctlWake, unsafe.Pointer(&arg)); errno != 0 {
		return fmt.Errorf("wake threads at %#x: %w", addr, errno)
	}
	return nil
}

// changing asks whether an event is under way that has not been read and acknowledged. The kernel
// then refuses a copy before it looks at the range, which is empty here (fs/userfaultfd.c,
// userfaultfd_copy, mmap_changing).
func changing(fd int) bool {
	var arg uffdCopy
	return ioctl(fd, ioctlCopy, unsafe.Pointer(&arg)) == unix.EAGAIN
}

// gone tells whether the address space has ended. It lifts the write protection of a page that has
// none, which changes nothing. Before that the kernel looks for the address space
// (userfaultfd_writeprotect).
func gone(fd int, addr uint64) bool {
	arg := struct {
		uffdRange
		mode uint64
	}{uffdRange: uffdRange{addr, stream.PageSize}}
	return ioctl(fd, ioctlProtect, unsafe.Pointer(&arg)) == unix.ESRCH
}

func uffdError(errno unix.Errno) error {
	switch errno {
	case unix.EAGAIN:
		return errChanging
	case unix.EEXIST:
		return ErrAlreadyMapped
	case unix.ENOENT:
		return errUnregistered
	case unix.ESRCH:
		return errGone
	}
	return errno
}

// event is a decoded message. Its numbers are addresses in bytes.
type event struct {
	kind       byte
	start, end uint64 // pagefault: start is the page; fork: unused
	to         uint64 // remap: where start goes
	child      int    // fork: the userfaultfd of the new address space
}

// readEvents reads what is queued, at most readBatch messages. None is no error.
func readEvents(fd int) ([]event, error) {
	buf := make([]byte, readBatch*msgSize)
	n, err := linux.RetryValue(func() (int, error) { return unix.Read(fd, buf) })
	if errors.Is(err, unix.EAGAIN) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read userfaultfd: %w", err)
	}
	if n == 0 || n%msgSize != 0 {
		return nil, fmt.Errorf("read userfaultfd: %d bytes", n)
	}
	var out []event
	for b := buf[:n]; len(b) > 0; b = b[msgSize:] {
		ev, err := decodeEvent(b)
		if err != nil {
			return out, err
		}
		out = append(out, ev)
	}
	return out, nil
}

func decodeEvent(b []byte) (event, error) {
	u64 := func(at int) uint64 { return binary.NativeEndian.Uint64(b[at:]) }
	switch kind := b[0]; kind {
	case msgPagefault:
		return event{kind: kind, start: u64(16) &^ (stream.PageSize - 1)}, nil
	case msgFork:
		return event{kind: kind, child: int(binary.NativeEndian.Uint32(b[8:]))}, nil
	case msgRemap:
		return event{kind: kind, start: u64(8), end: u64(8) + u64(24), to: u64(16)}, nil
	case msgRemove, msgUnmap:
		return event{kind: kind, start: u64(8), end: u64(16)}, nil
	default:
		return event{}, fmt.Errorf("read userfaultfd: message of kind %#x", kind)
	}
}
