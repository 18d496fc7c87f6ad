package stream

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/migrate-hpc/migrate/procfs"
)

// VPID is a process id as the job sees it, in its own pid namespace. CRIU names
// its per-process images by it.
type VPID int32

const (
	// PageSize is the size of a page in bytes. Both ends of a move have the
	// same architecture, and those that are supported use pages of 4 KiB.
	PageSize = procfs.PageSize
	// FirstShared and what is above it are no processes, which the kernel numbers up
	// to 1<<22: it is memory that processes share, by number, and addresses are
	// offsets in it.
	FirstShared VPID = 1 << 30
	// RunHeaderSize is the size in bytes of what precedes a run's data.
	RunHeaderSize = 24
	// MaxRunPages is the number of pages that fit behind one run header in a frame.
	MaxRunPages = (MaxFrame - RunHeaderSize) / PageSize

	// MaxCopyPages is the number of pages that one run may copy: 2 MiB.
	MaxCopyPages = 512

	runZero = 1 << 0
	runCopy = 1 << 1
	runDrop = 1 << 2
	// copyRefSize is the size in bytes of what follows the header of a copy.
	copyRefSize = 16
	// MaxAddress ends user space on x86-64 with five-level page tables, the
	// largest of those supported.
	MaxAddress = 1 << 56
)

// ErrRun is wrapped by every error about a malformed page batch.
var ErrRun = errors.New("malformed page run")

// Run is one run of consecutive pages of one process. It says what they hold: Data,
// zeros (Zero), or what other pages held when the run was written (Copy); or that what
// was said of them before is no longer true (Drop).
type Run struct {
	VPID  VPID
	Addr  uint64 // in bytes, a multiple of PageSize
	Pages int64
	Zero  bool   // every page is zero
	Drop  bool   // the pages are not known any more
	Copy  bool   // the pages equal those at From
	From  Place  // of a copy
	Data  []byte // Pages × PageSize bytes, a part of the frame it came in; else nil
}

// Place is a page of a process.
type Place struct {
	VPID VPID
	Addr uint64 // in bytes, a multiple of PageSize
}

func (r Run) flags() uint32 {
	switch {
	case r.Zero:
		return runZero
	case r.Copy:
		return runCopy
	case r.Drop:
		return runDrop
	}
	return 0
}

// AppendRun appends the pages in data, found at addr of process vpid, to the
// batch b. It panics if data is no positive whole number of pages.
func AppendRun(b []byte, vpid VPID, addr uint64, data []byte) []byte {
	if len(data) == 0 || len(data)%PageSize != 0 {
		panic(fmt.Sprintf("image: run of %d bytes is no whole number of pages", len(data)))
	}
	b = AppendHeader(b, vpid, addr, int64(len(data)/PageSize))
	return append(b, data...)
}

// AppendZero appends a run of zero pages to the batch b.
func AppendZero(b []byte, vpid VPID, addr uint64, pages int64) []byte {
	return appendHeader(b, vpid, runZero, addr, pages)
}

// AppendDrop appends a run of pages that the reader is to forget to the batch b.
func AppendDrop(b []byte, vpid VPID, addr uint64, pages int64) []byte {
	return appendHeader(b, vpid, runDrop, addr, pages)
}

// AppendCopy appends a run of pages, at most MaxCopyPages, that equal those at from to
// the batch b. The two ranges must not overlap.
func AppendCopy(b []byte, vpid VPID, addr uint64, pages int64, from Place) []byte {
	b = appendHeader(b, vpid, runCopy, addr, pages)
	b = binary.LittleEndian.AppendUint32(b, uint32(from.VPID))
	b = binary.LittleEndian.AppendUint32(b, 0)
	return binary.LittleEndian.AppendUint64(b, from.Addr)
}

// AppendHeader appends the header of a run whose data, pages × PageSize bytes,
// the caller puts right behind it. This saves a copy where the data is read
// straight into the frame.
func AppendHeader(b []byte, vpid VPID, addr uint64, pages int64) []byte {
	return appendHeader(b, vpid, 0, addr, pages)
}

func appendHeader(b []byte, vpid VPID, flags uint32, addr uint64, pages int64) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(vpid))
	b = binary.LittleEndian.AppendUint32(b, flags)
	b = binary.LittleEndian.AppendUint64(b, addr)
	b = binary.LittleEndian.AppendUint32(b, uint32(pages))
	return binary.LittleEndian.AppendUint32(b, 0)
}

// EachRun calls fn for every run in the frame, in order, and stops at the first
// error. A malformed run is reported (ErrRun) when it is reached, after fn has
// seen those before it. Data is valid as long as the frame is.
func EachRun(frame []byte, fn func(Run) error) error {
	for off := 0; off < len(frame); {
		r, size, err := parseRun(frame[off:])
		if err != nil {
			return fmt.Errorf("page run at byte %d of %d: %w", off, len(frame), err)
		}
		if err := fn(r); err != nil {
			return err
		}
		off += size
	}
	return nil
}

// parseRun decodes the run at the start of b and returns it with its size.
func parseRun(b []byte) (Run, int, error) {
	if len(b) < RunHeaderSize {
		return Run{}, 0, fmt.Errorf("%w: %d bytes left, a header has %d", ErrRun, len(b), RunHeaderSize)
	}
	vpid, flags := binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:])
	addr := binary.LittleEndian.Uint64(b[8:])
	pages, reserved := binary.LittleEndian.Uint32(b[16:]), binary.LittleEndian.Uint32(b[20:])
	if err := checkRun(vpid, flags, addr, pages, reserved); err != nil {
		return Run{}, 0, err
	}
	r := Run{VPID: VPID(vpid), Addr: addr, Pages: int64(pages), Zero: flags == runZero, Copy: flags == runCopy, Drop: flags == runDrop}
	switch {
	case r.Zero || r.Drop:
		return r, RunHeaderSize, nil
	case r.Copy:
		return parseCopy(r, b)
	}
	size := RunHeaderSize + r.Pages*PageSize
	if size > int64(len(b)) {
		return Run{}, 0, fmt.Errorf("%w: %d pages named, %d bytes left", ErrRun, pages, len(b)-RunHeaderSize)
	}
	r.Data = b[RunHeaderSize:size:size]
	return r, int(size), nil
}

// parseCopy decodes what follows the header of a copy.
func parseCopy(r Run, b []byte) (Run, int, error) {
	if len(b) < RunHeaderSize+copyRefSize {
		return Run{}, 0, fmt.Errorf("%w: a copy of nothing", ErrRun)
	}
	ref := b[RunHeaderSize:]
	vpid, reserved := binary.LittleEndian.Uint32(ref), binary.LittleEndian.Uint32(ref[4:])
	r.From = Place{VPID(vpid), binary.LittleEndian.Uint64(ref[8:])}
	size := uint64(r.Pages) * PageSize
	switch err := checkRun(vpid, 0, r.From.Addr, uint32(r.Pages), reserved); {
	case err != nil:
		return Run{}, 0, fmt.Errorf("copied from: %w", err)
	case r.Pages > MaxCopyPages:
		return Run{}, 0, fmt.Errorf("%w: copy of %d pages", ErrRun, r.Pages)
	case r.VPID == r.From.VPID && r.Addr < r.From.Addr+size && r.From.Addr < r.Addr+size:
		return Run{}, 0, fmt.Errorf("%w: copy of pages to themselves", ErrRun)
	}
	return r, RunHeaderSize + copyRefSize, nil
}

func checkRun(vpid, flags uint32, addr uint64, pages, reserved uint32) error {
	switch {
	case vpid == 0 || vpid > 1<<31-1:
		return fmt.Errorf("%w: vpid %d", ErrRun, vpid)
	case flags&(flags-1) != 0 || flags > runDrop || reserved != 0:
		return fmt.Errorf("%w: unknown flags %#x, reserved %#x", ErrRun, flags, reserved)
	case pages == 0:
		return fmt.Errorf("%w: no pages", ErrRun)
	}
	return CheckRange(ErrRun, addr, uint64(pages))
}

// CheckRange refuses what cannot be a range of pages in user space.
func CheckRange(kind error, addr, pages uint64) error {
	switch {
	case addr%PageSize != 0:
		return fmt.Errorf("%w: address %#x is not at a page", kind, addr)
	case addr >= MaxAddress || pages > (MaxAddress-addr)/PageSize:
		return fmt.Errorf("%w: %d pages at %#x reach beyond user space", kind, pages, addr)
	}
	return nil
}
