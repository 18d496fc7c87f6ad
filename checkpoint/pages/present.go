package pages

import (
	"errors"
	"fmt"
	"io"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/checkpoint/image"
)

// The PAGEMAP_SCAN ioctl (Linux 6.7, include/uapi/linux/fs.h).
const (
	pagemapScan = 0xc0606610

	pageIsPresent = 1 << 3
	pageIsSwapped = 1 << 4
	pageIsPFNZero = 1 << 5
)

// Bits of an entry of /proc/PID/pagemap (Documentation/admin-guide/mm/pagemap.rst).
const (
	entryPresent   = 1 << 63
	entrySwapped   = 1 << 62
	entrySoftDirty = 1 << 55
)

// scanArgs is struct pm_scan_arg.
type scanArgs struct {
	size, flags, start, end, walkEnd, vec, vecLen, maxPages uint64
	inverted, mask, anyOf, wanted                           uint64
}

// scanRegion is struct page_region.
type scanRegion struct{ start, end, categories uint64 }

// pagemap tells which pages of a process exist. Touching another one would make it, and
// a job may have reserved far more than it uses.
type pagemap struct {
	file    *os.File
	old     bool // no PAGEMAP_SCAN
	regions []scanRegion
	entries []uint64
}

func openPagemap(pid int) (*pagemap, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/pagemap", pid))
	if err != nil {
		return nil, err
	}
	return &pagemap{file: f}, nil
}

func (p *pagemap) close() { _ = p.file.Close() } // opened for reading only

// each calls fn for the pages in r that exist, in order.
func (p *pagemap) each(r addrRange, fn func(found addrRange) error) error {
	if !p.old {
		err := p.scan(r, fn)
		if !errors.Is(err, unix.ENOTTY) {
			return err
		}
		p.old = true
	}
	return p.readEach(r, fn)
}

// scan asks for what CRIU asks for (pmc_fill in its pagemap-cache.c), but not whether a
// page is of a file: to know that the kernel visits what it has noted of each page, and
// r is anonymous memory.
func (p *pagemap) scan(r addrRange, fn func(addrRange) error) error {
	if p.regions == nil {
		p.regions = make([]scanRegion, 1024)
	}
	for r.start < r.end {
		args := scanArgs{
			size: uint64(unsafe.Sizeof(scanArgs{})), start: r.start, end: r.end,
			vec: uint64(uintptr(unsafe.Pointer(&p.regions[0]))), vecLen: uint64(len(p.regions)),
			inverted: pageIsPFNZero, mask: pageIsPFNZero,
			anyOf: pageIsPresent | pageIsSwapped,
		}
		n, _, errno := unix.Syscall(unix.SYS_IOCTL, p.file.Fd(), pagemapScan, uintptr(unsafe.Pointer(&args)))
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 {
			return errno
		}
		for _, found := range p.regions[:n] {
			if err := fn(addrRange{found.start, found.end}); err != nil {
				return err
			}
		}
		if args.walkEnd <= r.start {
			return fmt.Errorf("pagemap: no way beyond %#x", r.start)
		}
		r.start = args.walkEnd
	}
	return nil
}

// readEach is scan for kernels without it. It also finds pages that are nothing but the
// kernel's page of zeros.
func (p *pagemap) readEach(r addrRange, fn func(addrRange) error) error {
	run := addrRange{r.start, r.start}
	for r.start < r.end {
		entries, err := p.read(addrRange{r.start, min(r.end, r.start+entriesAtOnce*image.PageSize)})
		if err != nil {
			return err
		}
		for _, e := range entries {
			if e&(entryPresent|entrySwapped) == 0 {
				if run.start < run.end {
					if err := fn(run); err != nil {
						return err
					}
				}
				run.start = r.start + image.PageSize
			}
			r.start += image.PageSize
			run.end = r.start
		}
	}
	if run.start == run.end {
		return nil
	}
	return fn(run)
}

// entriesAtOnce bounds what read is asked for.
const entriesAtOnce = 8192

// read returns the entries of the pages in r. They are valid until the next call.
func (p *pagemap) read(r addrRange) ([]uint64, error) {
	if p.entries == nil {
		p.entries = make([]uint64, entriesAtOnce)
	}
	n := int((r.end - r.start) / image.PageSize)
	buf := unsafe.Slice((*byte)(unsafe.Pointer(&p.entries[0])), n*8)
	if _, err := p.file.ReadAt(buf, int64(r.start/image.PageSize)*8); err != nil {
		if err == io.EOF { // the process has no memory any more
			err = unix.ESRCH
		}
		return nil, err
	}
	return p.entries[:n], nil
}
