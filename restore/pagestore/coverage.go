package pagestore

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/migrate-hpc/migrate/restore/pageset"
	"github.com/migrate-hpc/migrate/stream"
)

// Gaps returns the lazy pages that the store lacks. It may hold more than those; see Trim.
func (s *Store) Gaps(lazy map[stream.VPID][]pageset.Range) map[stream.VPID][]pageset.Range {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.index.gaps(lazy)
}

// FirstOf returns the first gap of the first task as an error.
func FirstOf(gaps map[stream.VPID][]pageset.Range) error {
	for _, vpid := range slices.Sorted(maps.Keys(gaps)) {
		for _, g := range gaps[vpid] {
			return fmt.Errorf("task %d, %d pages at %#x: %w", vpid, g.Pages(), g.Start, ErrMissing)
		}
	}
	return nil
}

// Trim removes every page that is not lazy, and frees its memory. A page of a warm-up may have
// been unmapped, discarded or locked before the freeze. It must not come back.
func (s *Store) Trim(lazy map[stream.VPID][]pageset.Range) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var gone []pageset.Span
	var records []byte
	for vpid, t := range s.index {
		for _, r := range pageset.Subtract(t.Ranges(), lazy[vpid]) {
			for _, sp := range t.Cut(r.Start, r.End) {
				records = appendRecord(records, recordDrop, vpid, sp)
				gone = append(gone, sp)
			}
		}
	}
	if err := errors.Join(s.log.append(records), s.data.punch(s.blocks.release(gone))); err != nil {
		return fmt.Errorf("trim the page store: %w", err)
	}
	return nil
}

func (s *Store) drop(vpid stream.VPID, t *pageset.Set, start, end uint64) error {
	old := t.Cut(start, end)
	var records []byte
	for _, sp := range old {
		records = appendRecord(records, recordDrop, vpid, sp)
	}
	if err := s.log.append(records); err != nil {
		return err
	}
	return s.data.punch(s.blocks.release(old))
}

// Take hands over the pages of vpid in [start, end). The store does not know them any more, and
// the caller releases them. Zero pages need no copy: memory that was never touched reads as zero.
func (s *Store) Take(vpid stream.VPID, start, end uint64) []pageset.Span {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.index.take(vpid, start, end)
}

// Held returns where the store has pages in [start, end).
func (s *Store) Held(vpid stream.VPID, start, end uint64) []pageset.Span {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.index.held(vpid, start, end)
}

// Bytes returns the size of the pages held, in bytes; zero pages are none.
func (s *Store) Bytes() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.index.bytes()
}

// BytesOf is the size of the pages held of one task; zero pages are none.
func (s *Store) BytesOf(vpid stream.VPID) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.index.bytesOf(vpid)
}
