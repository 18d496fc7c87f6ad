package pages

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/migrate-hpc/migrate/checkpoint/image"
)

// Missing looks for the first lazy page named by CRIU's pagemaps that the store
// does not hold, in order of vpid and address, and returns the run of missing
// pages that starts there. A store may hold more than the pagemaps name; see
// Trim.
func (s *Store) Missing(regions map[image.VPID][]image.Region) (vpid image.VPID, addr uint64, pages int64, missing bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, vpid := range slices.Sorted(maps.Keys(regions)) {
		for _, r := range lazyRanges(regions[vpid]) {
			if start, end, ok := s.gap(vpid, r); ok {
				return vpid, start, int64((end - start) / pageSize), true
			}
		}
	}
	return 0, 0, 0, false
}

// gap returns the first part of r that the index does not cover.
func (s *Store) gap(vpid image.VPID, r addrRange) (start, end uint64, ok bool) {
	at := r.start
	if t := s.index[vpid]; t != nil {
		for _, sp := range t.within(r.start, r.end) {
			if sp.start > at {
				return at, sp.start, true
			}
			at = sp.end
		}
	}
	return at, r.end, at < r.end
}

// lacks returns the first part of r that the index does not cover.
func (s *Store) lacks(vpid image.VPID, r addrRange) (start, end uint64, missing bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gap(vpid, r)
}

// Trim forgets every page that is not lazy in CRIU's pagemaps, and gives its
// memory back. A page sent while the job ran may have been unmapped, discarded
// or locked before the freeze; it must not come back to life.
func (s *Store) Trim(regions map[image.VPID][]image.Region) error { return s.trim(lazyOf(regions)) }

func (s *Store) trim(lazy map[image.VPID][]addrRange) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for vpid, t := range s.index {
		at := uint64(0)
		for _, r := range append(slices.Clip(lazy[vpid]), addrRange{maxAddress, maxAddress}) {
			if err := s.drop(vpid, t, at, r.start); err != nil {
				return fmt.Errorf("trim pages of task %d: %w", vpid, err)
			}
			at = r.end
		}
	}
	return nil
}

func (s *Store) drop(vpid image.VPID, t *spanSet, start, end uint64) error {
	old := t.cut(start, end)
	for _, sp := range old {
		if err := s.append(recordDrop, vpid, sp); err != nil {
			return err
		}
	}
	return s.punch(s.blocks.release(old))
}

// take hands over the pages of vpid in [start, end); the store knows them no
// longer, and whoever took them releases them. Zero pages need no copy: memory that
// was never touched reads as zero.
func (s *Store) take(vpid image.VPID, start, end uint64) []span {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.index[vpid]; t != nil {
		return t.cut(start, end)
	}
	return nil
}

// held returns where the store has pages in [start, end).
func (s *Store) held(vpid image.VPID, start, end uint64) []span {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.index[vpid]; t != nil {
		return t.within(start, end)
	}
	return nil
}

// bytesOf is the size of the pages held of one task; zero pages are none.
func (s *Store) bytesOf(vpid image.VPID) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.index[vpid]; t != nil {
		return t.data
	}
	return 0
}

type addrRange struct{ start, end uint64 }

// lazyRanges returns where the lazy regions lie: sorted, none overlapping.
func lazyRanges(regions []image.Region) []addrRange {
	var all []addrRange
	for _, r := range regions {
		if r.Lazy && r.Pages > 0 {
			all = append(all, addrRange{r.Addr, r.End()})
		}
	}
	slices.SortFunc(all, func(a, b addrRange) int { return cmp.Compare(a.start, b.start) })
	var out []addrRange
	for _, r := range all {
		if n := len(out); n > 0 && r.start <= out[n-1].end {
			out[n-1].end = max(out[n-1].end, r.end)
			continue
		}
		out = append(out, r)
	}
	return out
}

func lazyOf(regions map[image.VPID][]image.Region) map[image.VPID][]addrRange {
	out := make(map[image.VPID][]addrRange, len(regions))
	for vpid, list := range regions {
		out[vpid] = lazyRanges(list)
	}
	return out
}
