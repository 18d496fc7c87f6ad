package uffd

import (
	"cmp"
	"slices"

	"github.com/migrate-hpc/migrate/restore/pageset"
)

// table lists the pages that an address space still lacks, by their address. Some are in the
// store, some are not here yet. The absent ones are also found by their address at the freeze,
// which is their name when they arrive. A page has one place in an address space, so both ways
// lead to the same.
type table struct {
	ready   pageset.Set
	absent  pageset.Set // off is the address at the freeze, the origin
	origins pageset.Set // the absent ones by origin; off is the address now
}

func (t *table) empty() bool { return t.ready.Empty() && t.absent.Empty() }

// bytes is the size of all pages in the table.
func (t *table) bytes() int64 { return t.ready.Data + t.absent.Data }

// insert adds sp, whose range must be free.
func (t *table) insert(sp pageset.Span) {
	if !sp.Absent {
		t.ready.Insert(sp)
		return
	}
	t.absent.Insert(sp)
	from := uint64(sp.Off)
	t.origins.Insert(pageset.Span{Start: from, End: from + uint64(sp.Bytes()), Off: int64(sp.Start)})
}

// cut removes [start, end) and returns what was there, in order.
func (t *table) cut(start, end uint64) []pageset.Span {
	gone := t.absent.Cut(start, end)
	for _, sp := range gone {
		t.origins.Cut(uint64(sp.Off), uint64(sp.Off)+uint64(sp.Bytes()))
	}
	return merge(t.ready.Cut(start, end), gone)
}

// within returns the parts of all spans inside [start, end), in order.
func (t *table) within(start, end uint64) []pageset.Span {
	return merge(t.ready.Within(start, end), t.absent.Within(start, end))
}

// await has a table without absent pages lack those of a sorted list. They are at their addresses
// of the freeze.
func (t *table) await(pages []pageset.Span) {
	for i := range pages {
		pages[i].Absent = true
	}
	t.awaitRest(pages)
}

// arrive makes absent pages ready that are among pieces of the store, and returns them. Zero pages
// are not lacked any more.
func (t *table) arrive(pieces []pageset.Span) (came []pageset.Span) {
	for _, piece := range pieces {
		for _, from := range t.origins.Cut(piece.Start, piece.End) {
			for _, sp := range t.absent.Cut(uint64(from.Off), uint64(from.Off)+uint64(from.Bytes())) {
				sp = sp.Found(piece)
				if !sp.Zero() {
					t.ready.Insert(sp)
				}
				came = append(came, sp)
			}
		}
	}
	return came
}

// arriveAll is arrive for very many pieces, which are sorted. It goes through the table
// and the pieces once.
func (t *table) arriveAll(pieces []pageset.Span) []pageset.Span {
	var rest []pageset.Span
	came := make([]pageset.Span, 0, len(pieces))
	for _, sp := range ordered(t.absent.All(), byOrigin) {
		from, end := uint64(sp.Off), uint64(sp.Off)+uint64(sp.Bytes())
		for len(pieces) > 0 && pieces[0].End <= from {
			pieces = pieces[1:]
		}
		at := from
		for _, piece := range pieces {
			if piece.Start >= end {
				break
			}
			piece = piece.Clip(from, end)
			if at < piece.Start {
				rest = append(rest, sp.OfOrigin(at, piece.Start))
			}
			came = append(came, sp.OfOrigin(piece.Start, piece.End).Found(piece))
			at = piece.End
		}
		if at < end {
			rest = append(rest, sp.OfOrigin(at, end))
		}
	}
	t.awaitRest(rest)
	t.ready = pageset.From(merge(t.ready.All(), ordered(withoutZeros(came), byAddress)))
	return came
}

// awaitRest has the table lack no other absent pages than rest, in order of origin.
func (t *table) awaitRest(rest []pageset.Span) {
	t.absent, t.origins = pageset.Set{}, pageset.Set{}
	for _, sp := range rest {
		from := uint64(sp.Off)
		t.origins.Push(pageset.Span{Start: from, End: from + uint64(sp.Bytes()), Off: int64(sp.Start)})
	}
	t.absent = pageset.From(ordered(rest, byAddress))
}

func withoutZeros(list []pageset.Span) []pageset.Span {
	out := make([]pageset.Span, 0, len(list))
	for _, sp := range list {
		if !sp.Zero() {
			out = append(out, sp)
		}
	}
	return out
}

func byAddress(a, b pageset.Span) int { return cmp.Compare(a.Start, b.Start) }
func byOrigin(a, b pageset.Span) int  { return cmp.Compare(a.Off, b.Off) }

// ordered sorts list, which mostly is sorted already.
func ordered(list []pageset.Span, by func(a, b pageset.Span) int) []pageset.Span {
	if !slices.IsSortedFunc(list, by) {
		slices.SortFunc(list, by)
	}
	return list
}

func (t *table) all() []pageset.Span { return merge(t.ready.All(), t.absent.All()) }

func (t *table) clone() table {
	return table{t.ready.Clone(), t.absent.Clone(), t.origins.Clone()}
}

func merge(a, b []pageset.Span) []pageset.Span {
	if len(b) == 0 {
		return a
	}
	if len(a) == 0 {
		return b
	}
	return ordered(append(a, b...), byAddress)
}

// covering returns the span of the set that holds addr.
func covering(set *pageset.Set, addr uint64) (pageset.Span, bool) {
	sp, ok := set.Next(addr)
	return sp, ok && sp.Start <= addr
}
