package watch

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ErrCannot says that this process cannot be watched, and why.
var ErrCannot = errors.New("writes cannot be watched")

// Range is consecutive pages, in bytes.
type Range struct{ Start, End uint64 }

// Watch follows the writes of one address space.
type Watch struct {
	uffd    int
	pagemap *os.File
	regions []pageRegion // reused
}

// Written appends to dst the pages in [start, end), which must lie in private
// anonymous mappings, that were written since the last call. Where a mapping is new or
// has moved since, that is all of it. An error that wraps ErrCannot says that this range
// cannot be watched, for instance because the process has ended (ENOMEM). After any
// error all of it counts as written: the process may have put another mapping there
// just now (EPERM).
//
// Whether a mapping has moved is seen by the mapping, which is not registered any more,
// and not by its pages: one that moves there and back may keep their protection (seen
// with 6.18).
func (w *Watch) Written(dst []Range, start, end uint64) ([]Range, error) {
	if w.regions == nil {
		w.regions = make([]pageRegion, scanBatch)
	}
	known := len(dst)
	dst, err := scan(w.pagemap, w.regions, dst, start, end)
	if err == nil {
		return dst, w.alive(start)
	}
	if !errors.Is(err, unix.EPERM) {
		return dst[:known], err
	}
	arg := registerArg{start: start, length: end - start, mode: registerWP} // what is registered already stays so
	if err := ioctl(w.uffd, ioctlRegister, unsafe.Pointer(&arg)); err != nil {
		return dst[:known], fmt.Errorf("%w: %#x-%#x: %w", ErrCannot, start, end, err)
	}
	dst, err = scan(w.pagemap, w.regions, dst[:known], start, end)
	return append(dst[:known], Range{start, end}), err
}

// alive says ErrCannot if the address space is gone: a scan finds nothing in it.
func (w *Watch) alive(addr uint64) error {
	var entry [8]byte
	if _, err := w.pagemap.ReadAt(entry[:], int64(addr)/int64(os.Getpagesize())*8); err != nil {
		return fmt.Errorf("%w: the program has ended: %w", ErrCannot, err)
	}
	return nil
}

// Close ends the watch. The process runs on as if it had never been.
func (w *Watch) Close() error {
	return errors.Join(unix.Close(w.uffd), w.pagemap.Close())
}

// scanBatch is how many ranges the kernel tells at once.
const scanBatch = 4096

type pageRegion struct{ start, end, categories uint64 }

type scanArg struct {
	size, flags, start, end, walkEnd, vec, vecLen, maxPages       uint64
	categoryInverted, categoryMask, categoryAnyOf, returnCategory uint64
}

// From linux/fs.h and linux/userfaultfd.h.
const (
	ioctlScan = 0xc0606610

	scanProtect = 1 << 0 // protect what is found
	scanAll     = 1 << 1 // fail where that cannot be, instead of passing over it

	isWritten = 1 << 1
	isPresent = 1 << 3
	isSwapped = 1 << 4

	ioctlAPI      = 0xc018aa3f
	ioctlRegister = 0xc020aa00
	apiVersion    = 0xaa
	registerWP    = 1 << 1

	featureUnpopulated = 1 << 13
	featureAsync       = 1 << 15

	userModeOnly = 1 // what anybody may ask for
)

type apiArg struct{ api, features, ioctls uint64 }

type registerArg struct{ start, length, mode, ioctls uint64 }

func ioctl(fd int, request uint, arg unsafe.Pointer) error {
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(request), uintptr(arg))
		switch errno {
		case 0:
			return nil
		case unix.EINTR:
		default:
			return errno
		}
	}
}

// scan walks over [start, end) in as many calls as it takes.
func scan(pagemap *os.File, regions []pageRegion, dst []Range, start, end uint64) ([]Range, error) {
	for start < end {
		arg := scanArg{size: uint64(unsafe.Sizeof(scanArg{})), flags: scanProtect | scanAll, start: start, end: end,
			vec: uint64(uintptr(unsafe.Pointer(&regions[0]))), vecLen: uint64(len(regions)),
			categoryMask: isWritten, categoryAnyOf: isPresent | isSwapped, returnCategory: isWritten}
		n, err := scanOnce(pagemap, &arg)
		if err != nil {
			return dst, fmt.Errorf("scan %#x-%#x: %w", start, end, err)
		}
		for _, r := range regions[:n] {
			dst = append(dst, Range{r.start, r.end})
		}
		if arg.walkEnd <= start {
			return dst, fmt.Errorf("scan %#x-%#x: the kernel does not get on", start, end)
		}
		start = arg.walkEnd
	}
	return dst, nil
}

func scanOnce(pagemap *os.File, arg *scanArg) (int, error) {
	for {
		n, _, errno := unix.Syscall(unix.SYS_IOCTL, pagemap.Fd(), ioctlScan, uintptr(unsafe.Pointer(arg)))
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// enable asks for the asynchronous mode.
func enable(uffd int) error {
	arg := apiArg{api: apiVersion, features: featureAsync | featureUnpopulated}
	if err := ioctl(uffd, ioctlAPI, unsafe.Pointer(&arg)); err != nil {
		return fmt.Errorf("%w: this kernel has no asynchronous write protection (Linux 6.7): %w", ErrCannot, err)
	}
	return nil
}
