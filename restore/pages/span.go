package pages

import (
	"slices"
	"sort"

	"github.com/migrate-hpc/migrate/stream"
)

const (
	// zeroOff stands in place of an offset for pages known to be zero.
	zeroOff = int64(-1)
	// leafSpans bounds what an insertion or a removal has to shift.
	leafSpans = 128
)

// span is a range of addresses whose contents lie one after the other in the
// store's data file.
type span struct {
	start, end uint64 // addresses in bytes, multiples of the page size
	off        int64  // offset of start's page in the data file, or zeroOff
	batch      uint32 // number of the batch of events that brought it to start; see events.go
	weak       bool   // its mapping may be gone: the kernel has the last word
	absent     bool   // not here yet; off is where start's page was at the freeze
}

func (s span) zero() bool { return s.off == zeroOff }

// stored tells whether off is a place in the store.
func (s span) stored() bool { return !s.zero() && !s.absent }
func (s span) bytes() int64 { return int64(s.end - s.start) }

// clip returns the part of s within [start, end), which must not be empty.
func (s span) clip(start, end uint64) span {
	if start > s.start {
		if !s.zero() {
			s.off += int64(start - s.start)
		}
		s.start = start
	}
	s.end = min(s.end, end)
	return s
}

// ofOrigin returns the part of absent pages that was in [start, end) at the freeze.
func (s span) ofOrigin(start, end uint64) span {
	moved := s.start - uint64(s.off)
	return s.clip(start+moved, end+moved)
}

// found returns absent pages as what they are, of a piece of the store that has them.
func (s span) found(piece span) span {
	s.absent = false
	if piece.zero() {
		s.off = zeroOff
	} else {
		s.off += piece.off - int64(piece.start)
	}
	return s
}

// continues tells whether t can be appended to s.
func (s span) continues(t span) bool {
	if s.end != t.start || s.zero() != t.zero() || s.batch != t.batch || s.weak != t.weak || s.absent != t.absent {
		return false
	}
	return s.zero() || s.off+s.bytes() == t.off
}

// spanSet holds spans that do not overlap, ordered by address, in leaves of
// bounded size: faults at random addresses cut a large set into very many
// pieces, and each cut must stay cheap. The zero value is an empty set.
type spanSet struct {
	leaves [][]span // none is empty
	data   int64    // bytes of all spans that are not zero
}

// seek returns the position of the first span that ends behind addr.
func (s *spanSet) seek(addr uint64) (leaf, at int) {
	leaf = sort.Search(len(s.leaves), func(i int) bool {
		l := s.leaves[i]
		return l[len(l)-1].end > addr
	})
	if leaf == len(s.leaves) {
		return leaf, 0
	}
	l := s.leaves[leaf]
	return leaf, sort.Search(len(l), func(i int) bool { return l[i].end > addr })
}

func (s *spanSet) empty() bool { return len(s.leaves) == 0 }

// next returns the first span that ends behind addr.
func (s *spanSet) next(addr uint64) (span, bool) {
	leaf, at := s.seek(addr)
	if leaf == len(s.leaves) {
		return span{}, false
	}
	return s.leaves[leaf][at], true
}

// within returns the parts of all spans inside [start, end), in order.
func (s *spanSet) within(start, end uint64) []span {
	var out []span
	leaf, at := s.seek(start)
	for ; leaf < len(s.leaves); leaf, at = leaf+1, 0 {
		for _, sp := range s.leaves[leaf][at:] {
			if sp.start >= end {
				return out
			}
			out = append(out, sp.clip(start, end))
		}
	}
	return out
}

// cut removes [start, end) and returns what was there, in order.
func (s *spanSet) cut(start, end uint64) []span {
	leaf, at := s.seek(start)
	if leaf == len(s.leaves) || s.leaves[leaf][at].start >= end {
		return nil
	}
	out := s.remove(leaf, at, end)
	for _, sp := range out {
		s.count(sp, -1)
	}
	first, last := &out[0], &out[len(out)-1]
	if last.end > end {
		s.insertPiece(last.clip(end, last.end))
		*last = last.clip(last.start, end)
	}
	if first.start < start {
		s.insertPiece(first.clip(first.start, start))
		*first = first.clip(start, first.end)
	}
	return out
}

// remove takes whole spans out, from a position on to the last that starts in front of
// end. It does not count.
func (s *spanSet) remove(leaf, at int, end uint64) []span {
	n, empty := 0, leaf
	for _, l := range s.leaves[leaf:] {
		if l[0].start >= end {
			break
		}
		n += len(l)
	}
	if at > 0 {
		empty++
	}
	var out []span
	if n > 2*leafSpans {
		out = make([]span, 0, n)
	}
	for ; leaf < len(s.leaves); leaf, at = leaf+1, 0 {
		l := s.leaves[leaf]
		stop := at + sort.Search(len(l)-at, func(i int) bool { return l[at+i].start >= end })
		out = append(out, l[at:stop]...)
		s.leaves[leaf] = slices.Delete(l, at, stop)
		if stop < len(l) {
			break
		}
	}
	s.leaves = slices.Delete(s.leaves, empty, max(empty, leaf))
	return out
}

// insert adds sp, whose range must be free, and joins it with its neighbours.
func (s *spanSet) insert(sp span) {
	leaf, at := s.seek(sp.start)
	if leaf == len(s.leaves) {
		s.push(sp)
		return
	}
	if sp.continues(s.leaves[leaf][at]) {
		sp.end = s.leaves[leaf][at].end
		s.removeAt(leaf, at)
		s.insert(sp)
		return
	}
	if pl, pa, ok := s.before(leaf, at); ok && s.leaves[pl][pa].continues(sp) {
		s.leaves[pl][pa].end = sp.end
		s.count(sp, 1)
		return
	}
	s.insertPiece(sp)
}

// push adds sp, which must lie behind all others, and joins it with the last.
func (s *spanSet) push(sp span) {
	s.count(sp, 1)
	n := len(s.leaves)
	if n == 0 {
		s.leaves = [][]span{{sp}}
		return
	}
	l := s.leaves[n-1]
	switch last := &l[len(l)-1]; {
	case last.continues(sp):
		last.end = sp.end
	case len(l) < leafSpans:
		s.leaves[n-1] = append(l, sp)
	default:
		s.leaves = append(s.leaves, append(make([]span, 0, leafSpans), sp))
	}
}

// setFrom makes a set of spans that are in order.
func setFrom(spans []span) (s spanSet) {
	for _, sp := range spans {
		s.push(sp)
	}
	return s
}

// put has sp take the place of what is in its range.
func (s *spanSet) put(sp span) {
	if n := len(s.leaves); n > 0 {
		if l := s.leaves[n-1]; l[len(l)-1].end > sp.start {
			s.cut(sp.start, sp.end)
			s.insert(sp)
			return
		}
	}
	s.push(sp)
}

// before returns the position in front of (leaf, at).
func (s *spanSet) before(leaf, at int) (int, int, bool) {
	if at > 0 {
		return leaf, at - 1, true
	}
	if leaf == 0 {
		return 0, 0, false
	}
	return leaf - 1, len(s.leaves[leaf-1]) - 1, true
}

// insertPiece adds sp without looking at its neighbours.
func (s *spanSet) insertPiece(sp span) {
	s.count(sp, 1)
	if len(s.leaves) == 0 {
		s.leaves = [][]span{{sp}}
		return
	}
	leaf, at := s.seek(sp.start)
	if leaf == len(s.leaves) {
		leaf--
		at = len(s.leaves[leaf])
	}
	s.leaves[leaf] = slices.Insert(s.leaves[leaf], at, sp)
	if l := s.leaves[leaf]; len(l) > leafSpans {
		half := slices.Clone(l[len(l)/2:])
		s.leaves[leaf] = l[:len(l)/2]
		s.leaves = slices.Insert(s.leaves, leaf+1, half)
	}
}

func (s *spanSet) removeAt(leaf, at int) {
	s.count(s.leaves[leaf][at], -1)
	s.leaves[leaf] = slices.Delete(s.leaves[leaf], at, at+1)
	if len(s.leaves[leaf]) == 0 {
		s.leaves = slices.Delete(s.leaves, leaf, leaf+1)
	}
}

func (s *spanSet) count(sp span, sign int64) {
	if !sp.zero() {
		s.data += sign * sp.bytes()
	}
}

// all returns every span, in order.
func (s *spanSet) all() []span { return slices.Concat(s.leaves...) }

// clone returns an independent copy.
func (s *spanSet) clone() spanSet {
	c := spanSet{leaves: make([][]span, len(s.leaves)), data: s.data}
	for i, l := range s.leaves {
		c.leaves[i] = slices.Clone(l)
	}
	return c
}

// setOf is the set of a process, made if there is none.
func setOf(m map[stream.VPID]*spanSet, vpid stream.VPID) *spanSet {
	if m[vpid] == nil {
		m[vpid] = &spanSet{}
	}
	return m[vpid]
}
