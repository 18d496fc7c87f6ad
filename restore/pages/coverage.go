package pages

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/stream"
)

// Missing looks for the first lazy page named by CRIU's pagemaps that the store
// does not hold, in order of vpid and address, and returns the run of missing
// pages that starts there. A store may hold more than the pagemaps name; see
// Trim.
func (s *Store) Missing(regions map[stream.VPID][]image.Region) (vpid stream.VPID, addr uint64, pages int64, missing bool) {
	gaps := s.gaps(lazyOf(regions))
	for _, vpid := range slices.Sorted(maps.Keys(gaps)) {
		for _, g := range gaps[vpid] {
			return vpid, g.start, g.pages(), true
		}
	}
	return 0, 0, 0, false
}

// gaps returns the lazy pages that the store lacks.
func (s *Store) gaps(lazy map[stream.VPID][]addrRange) map[stream.VPID][]addrRange {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[stream.VPID][]addrRange, len(lazy))
	for vpid, ranges := range lazy {
		out[vpid] = ranges
		if t := s.index[vpid]; t != nil {
			out[vpid] = subtract(ranges, t.ranges())
		}
	}
	return out
}

// firstOf returns a gap as an error: of the first task, and there the first.
func firstOf(gaps map[stream.VPID][]addrRange) error {
	for _, vpid := range slices.Sorted(maps.Keys(gaps)) {
		for _, g := range gaps[vpid] {
			return fmt.Errorf("task %d, %d pages at %#x: %w", vpid, g.pages(), g.start, ErrMissing)
		}
	}
	return nil
}

// Trim forgets every page that is not lazy in CRIU's pagemaps, and gives its
// memory back. A page sent while the job ran may have been unmapped, discarded
// or locked before the freeze; it must not come back to life.
func (s *Store) Trim(regions map[stream.VPID][]image.Region) error { return s.trim(lazyOf(regions)) }

func (s *Store) trim(lazy map[stream.VPID][]addrRange) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var gone []span
	var records []byte
	for vpid, t := range s.index {
		for _, r := range subtract(t.ranges(), lazy[vpid]) {
			for _, sp := range t.cut(r.start, r.end) {
				records = appendRecord(records, recordDrop, vpid, sp)
				gone = append(gone, sp)
			}
		}
	}
	if err := errors.Join(s.appendAll(records), s.punch(s.blocks.release(gone))); err != nil {
		return fmt.Errorf("trim the page store: %w", err)
	}
	return nil
}

func (s *Store) drop(vpid stream.VPID, t *spanSet, start, end uint64) error {
	old := t.cut(start, end)
	var records []byte
	for _, sp := range old {
		records = appendRecord(records, recordDrop, vpid, sp)
	}
	if err := s.appendAll(records); err != nil {
		return err
	}
	return s.punch(s.blocks.release(old))
}

// take hands over the pages of vpid in [start, end); the store knows them no
// longer, and whoever took them releases them. Zero pages need no copy: memory that
// was never touched reads as zero.
func (s *Store) take(vpid stream.VPID, start, end uint64) []span {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.index[vpid]; t != nil {
		return t.cut(start, end)
	}
	return nil
}

// held returns where the store has pages in [start, end).
func (s *Store) held(vpid stream.VPID, start, end uint64) []span {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.index[vpid]; t != nil {
		return t.within(start, end)
	}
	return nil
}

// bytesOf is the size of the pages held of one task; zero pages are none.
func (s *Store) bytesOf(vpid stream.VPID) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.index[vpid]; t != nil {
		return t.data
	}
	return 0
}
