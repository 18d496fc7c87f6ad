package pages

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/checkpoint/image"
)

// maxVectors is IOV_MAX of Linux.
const maxVectors = 1024

// PutBatch keeps all runs of a frame, like Put and PutZero in turn, but with one
// write of data and one of the log as long as none of the pages was there before:
// memory of many small runs would otherwise cost two system calls for each.
func (s *Store) PutBatch(runs []image.Run) error {
	data, off, fresh, err := s.place(runs)
	if err != nil {
		return fmt.Errorf("put %d runs: %w", len(runs), err)
	}
	if !fresh {
		return s.putInTurn(runs)
	}
	if err := s.writeData(data, off); err != nil {
		return fmt.Errorf("put %d runs: %w", len(runs), err)
	}
	if err := s.publishBatch(runs, off); err != nil {
		return fmt.Errorf("put %d runs: %w", len(runs), err)
	}
	return nil
}

// place finds room for all pages with data, one after the other from off on. It
// does not if the store has one of the pages already, whose place is then to be
// used again.
func (s *Store) place(runs []image.Run) (data [][]byte, off int64, fresh bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var size int64
	for _, r := range runs {
		if err := checkRange(r.VPID, r.Addr, r.Pages); err != nil {
			return nil, 0, false, err
		}
		if len(s.tableOf(r.VPID).within(r.Addr, r.Addr+uint64(r.Pages)*pageSize)) > 0 {
			return nil, 0, false, nil
		}
		if !r.Zero {
			data = append(data, r.Data)
			size += int64(len(r.Data))
		}
	}
	if size > 0 {
		off = s.blocks.alloc(size)
	}
	return data, off, true, nil
}

// writeData writes the pieces one after the other.
func (s *Store) writeData(pieces [][]byte, off int64) error {
	for len(pieces) > 0 {
		n, err := unix.Pwritev(int(s.data.Fd()), pieces[:min(len(pieces), maxVectors)], off)
		if err == unix.EINTR {
			continue
		}
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

// publishBatch makes the runs known, now that their data is in place.
func (s *Store) publishBatch(runs []image.Run, off int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	records := make([]byte, 0, len(runs)*recordSize)
	for _, r := range runs {
		sp := span{start: r.Addr, end: r.Addr + uint64(r.Pages)*pageSize, off: zeroOff}
		kind := uint32(recordZero)
		if !r.Zero {
			sp.off, kind = off, recordData
			off += sp.bytes()
		}
		records = append(records, encodeRecord(kind, r.VPID, sp)...)
		if err := s.replace(r.VPID, sp); err != nil {
			return err
		}
	}
	_, err := s.log.Write(records)
	return err
}

func (s *Store) putInTurn(runs []image.Run) error {
	for _, r := range runs {
		var err error
		if r.Zero {
			err = s.PutZero(r.VPID, r.Addr, r.Pages)
		} else {
			err = s.Put(r.VPID, r.Addr, r.Data)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
