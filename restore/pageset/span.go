package pageset

import (
	"slices"
	"sort"

	"github.com/migrate-hpc/migrate/stream"
)

const (
	// ZeroOff stands in place of an offset for pages known to be zero.
	ZeroOff = int64(-1)
	// leafSpans bounds what an insertion or a removal has to shift.
	leafSpans = 128
)

// Span is a range of addresses whose contents lie one after the other in the
// store's data file.
type Span struct {
	Start, End uint64 // addresses in bytes, multiples of the page size
	Off        int64  // offset of start's page in the data file, or ZeroOff
	Batch      uint32 // number of the batch of events that brought it to start; see events.go
	Weak       bool   // its mapping may be gone: the kernel has the last word
	Absent     bool   // not here yet; off is where start's page was at the freeze
}

func (s Span) Zero() bool { return s.Off == ZeroOff }

// Stored tells whether off is a place in the store.
func (s Span) Stored() bool { return !s.Zero() && !s.Absent }
func (s Span) Bytes() int64 { return int64(s.End - s.Start) }

// Clip returns the part of s within [start, end), which must not be empty.
func (s Span) Clip(start, end uint64) Span {
	if start > s.Start {
		if !s.Zero() {
			s.Off += int64(start - s.Start)
		}
		s.Start = start
	}
	s.End = min(s.End, end)
	return s
}

// OfOrigin returns the part of absent pages that was in [start, end) at the freeze.
func (s Span) OfOrigin(start, end uint64) Span {
	moved := s.Start - uint64(s.Off)
	return s.Clip(start+moved, end+moved)
}

// Found returns absent pages as what they are, of a piece of the store that has them.
func (s Span) Found(piece Span) Span {
	s.Absent = false
	if piece.Zero() {
		s.Off = ZeroOff
	} else {
		s.Off += piece.Off - int64(piece.Start)
	}
	return s
}

// continues tells whether t can be appended to s.
func (s Span) continues(t Span) bool {
	if s.End != t.Start || s.Zero() != t.Zero() || s.Batch != t.Batch || s.Weak != t.Weak || s.Absent != t.Absent {
		return false
	}
	return s.Zero() || s.Off+s.Bytes() == t.Off
}

// Set holds spans that do not overlap, ordered by address, in leaves of bounded size. Faults at
// random addresses cut a large set into very many pieces, and each cut must stay cheap. The zero
// value is an empty set.
type Set struct {
	Leaves [][]Span // none is empty
	Data   int64    // bytes of all spans that are not zero
}

// seek returns the position of the first span that ends behind addr.
func (s *Set) seek(addr uint64) (leaf, at int) {
	leaf = sort.Search(len(s.Leaves), func(i int) bool {
		l := s.Leaves[i]
		return l[len(l)-1].End > addr
	})
	if leaf == len(s.Leaves) {
		return leaf, 0
	}
	l := s.Leaves[leaf]
	return leaf, sort.Search(len(l), func(i int) bool { return l[i].End > addr })
}

func (s *Set) Empty() bool { return len(s.Leaves) == 0 }

// Next returns the first span that ends behind addr.
func (s *Set) Next(addr uint64) (Span, bool) {
	leaf, at := s.seek(addr)
	if leaf == len(s.Leaves) {
		return Span{}, false
	}
	return s.Leaves[leaf][at], true
}

// Within returns the parts of all spans inside [start, end), in order.
func (s *Set) Within(start, end uint64) []Span {
	var out []Span
	leaf, at := s.seek(start)
	for ; leaf < len(s.Leaves); leaf, at = leaf+1, 0 {
		for _, sp := range s.Leaves[leaf][at:] {
			if sp.Start >= end {
				return out
			}
			out = append(out, sp.Clip(start, end))
		}
	}
	return out
}

// Cut removes [start, end) and returns what was there, in order.
func (s *Set) Cut(start, end uint64) []Span {
	leaf, at := s.seek(start)
	if leaf == len(s.Leaves) || s.Leaves[leaf][at].Start >= end {
		return nil
	}
	out := s.remove(leaf, at, end)
	for _, sp := range out {
		s.count(sp, -1)
	}
	first, last := &out[0], &out[len(out)-1]
	if last.End > end {
		s.insertPiece(last.Clip(end, last.End))
		*last = last.Clip(last.Start, end)
	}
	if first.Start < start {
		s.insertPiece(first.Clip(first.Start, start))
		*first = first.Clip(start, first.End)
	}
	return out
}

// remove takes whole spans out, from a position on to the last that starts in front of
// end. It does not count.
func (s *Set) remove(leaf, at int, end uint64) []Span {
	n, empty := 0, leaf
	for _, l := range s.Leaves[leaf:] {
		if l[0].Start >= end {
			break
		}
		n += len(l)
	}
	if at > 0 {
		empty++
	}
	var out []Span
	if n > 2*leafSpans {
		out = make([]Span, 0, n)
	}
	for ; leaf < len(s.Leaves); leaf, at = leaf+1, 0 {
		l := s.Leaves[leaf]
		stop := at + sort.Search(len(l)-at, func(i int) bool { return l[at+i].Start >= end })
		out = append(out, l[at:stop]...)
		s.Leaves[leaf] = slices.Delete(l, at, stop)
		if stop < len(l) {
			break
		}
	}
	s.Leaves = slices.Delete(s.Leaves, empty, max(empty, leaf))
	return out
}

// Insert adds sp, whose range must be free, and joins it with its neighbours.
func (s *Set) Insert(sp Span) {
	leaf, at := s.seek(sp.Start)
	if leaf == len(s.Leaves) {
		s.Push(sp)
		return
	}
	if sp.continues(s.Leaves[leaf][at]) {
		sp.End = s.Leaves[leaf][at].End
		s.removeAt(leaf, at)
		s.Insert(sp)
		return
	}
	if pl, pa, ok := s.before(leaf, at); ok && s.Leaves[pl][pa].continues(sp) {
		s.Leaves[pl][pa].End = sp.End
		s.count(sp, 1)
		return
	}
	s.insertPiece(sp)
}

// Push adds sp, which must lie behind all others, and joins it with the last.
func (s *Set) Push(sp Span) {
	s.count(sp, 1)
	n := len(s.Leaves)
	if n == 0 {
		s.Leaves = [][]Span{{sp}}
		return
	}
	l := s.Leaves[n-1]
	switch last := &l[len(l)-1]; {
	case last.continues(sp):
		last.End = sp.End
	case len(l) < leafSpans:
		s.Leaves[n-1] = append(l, sp)
	default:
		s.Leaves = append(s.Leaves, append(make([]Span, 0, leafSpans), sp))
	}
}

// From makes a set of spans that are in order.
func From(spans []Span) (s Set) {
	for _, sp := range spans {
		s.Push(sp)
	}
	return s
}

// Put has sp take the place of what is in its range.
func (s *Set) Put(sp Span) {
	if n := len(s.Leaves); n > 0 {
		if l := s.Leaves[n-1]; l[len(l)-1].End > sp.Start {
			s.Cut(sp.Start, sp.End)
			s.Insert(sp)
			return
		}
	}
	s.Push(sp)
}

// before returns the position in front of (leaf, at).
func (s *Set) before(leaf, at int) (int, int, bool) {
	if at > 0 {
		return leaf, at - 1, true
	}
	if leaf == 0 {
		return 0, 0, false
	}
	return leaf - 1, len(s.Leaves[leaf-1]) - 1, true
}

// insertPiece adds sp without looking at its neighbours.
func (s *Set) insertPiece(sp Span) {
	s.count(sp, 1)
	if len(s.Leaves) == 0 {
		s.Leaves = [][]Span{{sp}}
		return
	}
	leaf, at := s.seek(sp.Start)
	if leaf == len(s.Leaves) {
		leaf--
		at = len(s.Leaves[leaf])
	}
	s.Leaves[leaf] = slices.Insert(s.Leaves[leaf], at, sp)
	if l := s.Leaves[leaf]; len(l) > leafSpans {
		half := slices.Clone(l[len(l)/2:])
		s.Leaves[leaf] = l[:len(l)/2]
		s.Leaves = slices.Insert(s.Leaves, leaf+1, half)
	}
}

func (s *Set) removeAt(leaf, at int) {
	s.count(s.Leaves[leaf][at], -1)
	s.Leaves[leaf] = slices.Delete(s.Leaves[leaf], at, at+1)
	if len(s.Leaves[leaf]) == 0 {
		s.Leaves = slices.Delete(s.Leaves, leaf, leaf+1)
	}
}

func (s *Set) count(sp Span, sign int64) {
	if !sp.Zero() {
		s.Data += sign * sp.Bytes()
	}
}

// All returns every span, in order.
func (s *Set) All() []Span { return slices.Concat(s.Leaves...) }

// Clone returns an independent copy.
func (s *Set) Clone() Set {
	c := Set{Leaves: make([][]Span, len(s.Leaves)), Data: s.Data}
	for i, l := range s.Leaves {
		c.Leaves[i] = slices.Clone(l)
	}
	return c
}

// Of is the set of a process, made if there is none.
func Of(m map[stream.VPID]*Set, vpid stream.VPID) *Set {
	if m[vpid] == nil {
		m[vpid] = &Set{}
	}
	return m[vpid]
}
