package procfs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/linux"
)

// The PAGEMAP_SCAN ioctl (Linux 6.7, include/uapi/linux/fs.h).
const (
	pagemapScan = 0xc0606610

	pageIsPresent = 1 << 3
	pageIsSwapped = 1 << 4
	pageIsPFNZero = 1 << 5
)

// PageSize is the page size in bytes of the kernels that this runs on.
const PageSize = 4096

// span is a range of addresses in bytes, multiples of the page size.
type span struct{ start, end uint64 }

// Bits of an entry of /proc/PID/pagemap (Documentation/admin-guide/mm/pagemap.rst).
const (
	entryPresent = 1 << 63
	entrySwapped = 1 << 62
	// SoftDirty is set where a page was written since the bits were cleared.
	SoftDirty = 1 << 55
)

// scanArgs is struct pm_scan_arg.
type scanArgs struct {
	size, flags, start, end, walkEnd, vec, vecLen, maxPages uint64
	inverted, mask, anyOf, wanted                           uint64
}

// scanRegion is struct page_region.
type scanRegion struct{ start, end, categories uint64 }

// Pagemap tells which pages of a process exist. Touching another one would make it, and
// a process may have reserved far more than it uses.
type Pagemap struct {
	// Zeros includes pages that are nothing but the kernel's page of zeros. A kernel
	// without PAGEMAP_SCAN always includes them.
	Zeros bool

	file    *os.File
	old     bool // no PAGEMAP_SCAN
	regions []scanRegion
	entries []uint64
}

// OpenPagemap opens the pagemap of a process. Close must be called.
func OpenPagemap(pid int) (*Pagemap, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/pagemap", pid))
	if err != nil {
		return nil, err
	}
	return &Pagemap{file: f}, nil
}

func (p *Pagemap) Close() { _ = p.file.Close() } // opened for reading only

// Each calls fn for the ranges of pages in [start, end) that exist, in order. Addresses are
// in bytes, multiples of the page size.
func (p *Pagemap) Each(start, end uint64, fn func(start, end uint64) error) error {
	r := span{start, end}
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
func (p *Pagemap) scan(r span, fn func(start, end uint64) error) error {
	if p.regions == nil {
		p.regions = make([]scanRegion, 1024)
	}
	for r.start < r.end {
		args := scanArgs{
			size: uint64(unsafe.Sizeof(scanArgs{})), start: r.start, end: r.end,
			vec: uint64(uintptr(unsafe.Pointer(&p.regions[0]))), vecLen: uint64(len(p.regions)),
			anyOf: pageIsPresent | pageIsSwapped,
		}
		if !p.Zeros {
			args.inverted, args.mask = pageIsPFNZero, pageIsPFNZero
		}
		n, errno := linux.Syscall(func() (uintptr, uintptr, unix.Errno) {
			return unix.Syscall(unix.SYS_IOCTL, p.file.Fd(), pagemapScan, uintptr(unsafe.Pointer(&args)))
		})
		if errno != 0 {
			return errno
		}
		for _, found := range p.regions[:n] {
			if err := fn(found.start, found.end); err != nil {
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
func (p *Pagemap) readEach(r span, fn func(start, end uint64) error) error {
	run := span{r.start, r.start}
	for r.start < r.end {
		entries, err := p.Entries(r.start, min(r.end, r.start+EntriesAtOnce*PageSize))
		if err != nil {
			return err
		}
		for _, e := range entries {
			if e&(entryPresent|entrySwapped) == 0 {
				if run.start < run.end {
					if err := fn(run.start, run.end); err != nil {
						return err
					}
				}
				run.start = r.start + PageSize
			}
			r.start += PageSize
			run.end = r.start
		}
	}
	if run.start == run.end {
		return nil
	}
	return fn(run.start, run.end)
}

// EntriesAtOnce bounds what Entries is asked for.
const EntriesAtOnce = 8192

// Entries returns the entries of the pages in [start, end). They are valid until the next call.
func (p *Pagemap) Entries(start, end uint64) ([]uint64, error) {
	if p.entries == nil {
		p.entries = make([]uint64, EntriesAtOnce)
	}
	n := int((end - start) / PageSize)
	buf := unsafe.Slice((*byte)(unsafe.Pointer(&p.entries[0])), n*8)
	if _, err := p.file.ReadAt(buf, int64(start/PageSize)*8); err != nil {
		if err == io.EOF { // the process has no memory any more
			err = unix.ESRCH
		}
		return nil, err
	}
	return p.entries[:n], nil
}
