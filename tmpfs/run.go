package tmpfs

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/migrate-hpc/migrate/procfs"
)

const (
	// PageSize is the unit of comparing, in bytes.
	PageSize = procfs.PageSize
	// MaxFrame bounds a frame, in bytes.
	MaxFrame = 1 << 20

	runHeader = 24
	runHole   = 1 << 0
	runGone   = 1 << 1
	// maxOffset ends the largest file that the kernel allows.
	maxOffset = 1<<63 - PageSize
)

// ErrFormat is wrapped by every error about what no Source would have sent.
var ErrFormat = errors.New("malformed tmpfs record")

// run is one run of a page frame.
type run struct {
	id     uint64
	offset int64
	pages  uint32
	flags  uint32
	data   []byte // pages × PageSize, part of the frame
}

// appendRun appends a run to a frame.
func appendRun(b []byte, r run) []byte {
	b = binary.LittleEndian.AppendUint64(b, r.id)
	b = binary.LittleEndian.AppendUint64(b, uint64(r.offset))
	b = binary.LittleEndian.AppendUint32(b, r.pages)
	b = binary.LittleEndian.AppendUint32(b, r.flags)
	return append(b, r.data...)
}

// eachRun calls fn for every run of a frame, in order, until the first error.
func eachRun(frame []byte, fn func(run) error) error {
	for len(frame) > 0 {
		r, size, err := parseRun(frame)
		if err != nil {
			return err
		}
		if err := fn(r); err != nil {
			return err
		}
		frame = frame[size:]
	}
	return nil
}

func parseRun(b []byte) (run, int, error) {
	if len(b) < runHeader {
		return run{}, 0, fmt.Errorf("%w: %d bytes left of a frame", ErrFormat, len(b))
	}
	r := run{
		id: binary.LittleEndian.Uint64(b), offset: int64(binary.LittleEndian.Uint64(b[8:])),
		pages: binary.LittleEndian.Uint32(b[16:]), flags: binary.LittleEndian.Uint32(b[20:]),
	}
	if err := r.check(); err != nil {
		return run{}, 0, err
	}
	if r.flags != 0 {
		return r, runHeader, nil
	}
	size := runHeader + int64(r.pages)*PageSize
	if size > int64(len(b)) {
		return run{}, 0, fmt.Errorf("%w: %d pages named, %d bytes left", ErrFormat, r.pages, len(b)-runHeader)
	}
	r.data = b[runHeader:size:size]
	return r, int(size), nil
}

func (r run) check() error {
	switch {
	case r.id == 0:
		return fmt.Errorf("%w: file 0", ErrFormat)
	case r.flags == runGone:
		if r.pages != 0 || r.offset != 0 {
			return fmt.Errorf("%w: a file that is gone has pages", ErrFormat)
		}
		return nil
	case r.flags != 0 && r.flags != runHole:
		return fmt.Errorf("%w: flags %#x", ErrFormat, r.flags)
	case r.pages == 0:
		return fmt.Errorf("%w: no pages", ErrFormat)
	case r.offset < 0 || r.offset%PageSize != 0 || int64(r.pages) > (maxOffset-r.offset)/PageSize:
		return fmt.Errorf("%w: %d pages at %#x", ErrFormat, r.pages, r.offset)
	}
	return nil
}

// EachRun tells of every run of a page frame, in order, until the first error: pages at
// a place with their data, holes without, or a file that is gone, which has no pages.
func EachRun(frame []byte, fn func(at Place, pages int64, data []byte) error) error {
	return eachRun(frame, func(r run) error { return fn(Place{r.id, r.offset}, int64(r.pages), r.data) })
}
