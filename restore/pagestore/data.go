package pagestore

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/linux"
)

// maxVectors is IOV_MAX of Linux.
const maxVectors = 1024

// dataFile is where the pages lie.
type dataFile struct{ *os.File }

// size is the length of the data file, in bytes.
func (f dataFile) size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// place is where a part of a run goes in the data file.
type place struct {
	data []byte
	off  int64
}

// writePieces writes the pieces one after the other.
func (f dataFile) writePieces(pieces [][]byte, off int64) error {
	for len(pieces) > 0 {
		n, err := linux.RetryValue(func() (int, error) {
			return unix.Pwritev(int(f.Fd()), pieces[:min(len(pieces), maxVectors)], off)
		})
		if err != nil {
			return err
		}
		off += int64(n)
		for len(pieces) > 0 && n >= len(pieces[0]) {
			n -= len(pieces[0])
			pieces = pieces[1:]
		}
		if n > 0 {
			pieces[0] = pieces[0][n:]
		}
	}
	return nil
}

// overwrite writes pages that have a place. Those that lie one after the other go
// together.
func (f dataFile) overwrite(old []place) error {
	var together [][]byte
	for len(old) > 0 {
		n, end := 0, old[0].off
		together = together[:0]
		for n < len(old) && old[n].off == end {
			together = append(together, old[n].data)
			end += int64(len(old[n].data))
			n++
		}
		if err := f.writePieces(together, old[0].off); err != nil {
			return err
		}
		old = old[n:]
	}
	return nil
}

// hole is an unused part of the data file.
type hole struct{ off, size int64 }

// punch gives the memory of holes back.
func (f dataFile) punch(holes []hole) error {
	for _, h := range holes {
		const mode = unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE
		err := linux.Retry(func() error { return unix.Fallocate(int(f.Fd()), mode, h.off, h.size) })
		if err != nil {
			return fmt.Errorf("give back %d bytes of the page store: %w", h.size, err)
		}
	}
	return nil
}

// mmap maps the file for reading, and more bytes that it may grow by; nil if that is
// nothing.
func (f dataFile) mmap(more int64) ([]byte, error) {
	size, err := f.size()
	if err != nil || size+more == 0 {
		return nil, err
	}
	memory, err := unix.Mmap(int(f.Fd()), 0, int(size+more), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map the page store: %w", err)
	}
	return memory, nil
}
