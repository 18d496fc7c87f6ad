package pages

import (
	"encoding/binary"
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

	pageIsFile      = 1 << 2
	pageIsPresent   = 1 << 3
	pageIsSwapped   = 1 << 4
	pageIsPFNZero   = 1 << 5
	pageIsSoftDirty = 1 << 7
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
	entries []byte
}

func openPagemap(pid int) (*pagemap, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/pagemap", pid))
	if err != nil {
		return nil, err
	}
	return &pagemap{file: f}, nil
}

func (p *pagemap) close() { _ = p.file.Close() } // opened for reading only

// each calls fn for the pages in r that exist, in order. They also are what must says:
// pageIsSoftDirty or nothing.
func (p *pagemap) each(r addrRange, must uint64, fn func(found addrRange) error) error {
	if !p.old {
		err := p.scan(r, must, fn)
		if !errors.Is(err, unix.ENOTTY) {
			return err
		}
		p.old = true
	}
	entry := uint64(0)
	if must&pageIsSoftDirty != 0 {
		entry = entrySoftDirty
	}
	return p.readEntries(r, entry, fn)
}

// scan asks for what CRIU asks for (pmc_fill in its pagemap-cache.c).
func (p *pagemap) scan(r addrRange, must uint64, fn func(addrRange) error) error {
	if p.regions == nil {
		p.regions = make([]scanRegion, 1024)
	}
	for r.start < r.end {
		args := scanArgs{
			size: uint64(unsafe.Sizeof(scanArgs{})), start: r.start, end: r.end,
			vec: uint64(uintptr(unsafe.Pointer(&p.regions[0]))), vecLen: uint64(len(p.regions)),
			inverted: pageIsPFNZero | pageIsFile, mask: pageIsPFNZero | pageIsFile | must,
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

// readEntries is scan for kernels without it. It also finds pages that are nothing but
// the kernel's page of zeros.
func (p *pagemap) readEntries(r addrRange, must uint64, fn func(addrRange) error) error {
	const entry = 8
	if p.entries == nil {
		p.entries = make([]byte, 64<<10)
	}
	for r.start < r.end {
		want := min(len(p.entries), int((r.end-r.start)/image.PageSize)*entry)
		n, err := p.file.ReadAt(p.entries[:want], int64(r.start/image.PageSize)*entry)
		if n -= n % entry; n == 0 {
			if err == nil || err == io.EOF { // the process has no memory any more
				err = unix.ESRCH
			}
			return err
		}
		if err := eachExisting(r.start, p.entries[:n], must, fn); err != nil {
			return err
		}
		r.start += uint64(n/entry) * image.PageSize
	}
	return nil
}

// eachExisting joins neighbours among the entries of pages from addr on.
func eachExisting(addr uint64, entries []byte, must uint64, fn func(addrRange) error) error {
	run := addrRange{addr, addr}
	for ; len(entries) > 0; entries, addr = entries[8:], addr+image.PageSize {
		e := binary.LittleEndian.Uint64(entries)
		if e&(entryPresent|entrySwapped) == 0 || e&must != must {
			continue
		}
		if run.end != addr {
			if run.end > run.start {
				if err := fn(run); err != nil {
					return err
				}
			}
			run.start = addr
		}
		run.end = addr + image.PageSize
	}
	if run.end == run.start {
		return nil
	}
	return fn(run)
}
