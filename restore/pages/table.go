package pages

import (
	"cmp"
	"slices"
)

// table lists the pages that an address space still lacks, by their address: those
// that the store has and those that are not here yet. The latter are also found by
// where they were at the freeze, which is how they are named when they arrive. A
// page has one place in an address space, so both ways lead to the same.
type table struct {
	ready   spanSet
	absent  spanSet // off is the address at the freeze, the origin
	origins spanSet // the absent ones by origin; off is the address now
}

func (t *table) empty() bool { return t.ready.empty() && t.absent.empty() }

// bytes is the size of all pages in the table.
func (t *table) bytes() int64 { return t.ready.data + t.absent.data }

// insert adds sp, whose range must be free.
func (t *table) insert(sp span) {
	if !sp.absent {
		t.ready.insert(sp)
		return
	}
	t.absent.insert(sp)
	from := uint64(sp.off)
	t.origins.insert(span{start: from, end: from + uint64(sp.bytes()), off: int64(sp.start)})
}

// cut removes [start, end) and returns what was there, in order.
func (t *table) cut(start, end uint64) []span {
	gone := t.absent.cut(start, end)
	for _, sp := range gone {
		t.origins.cut(uint64(sp.off), uint64(sp.off)+uint64(sp.bytes()))
	}
	return merge(t.ready.cut(start, end), gone)
}

// within returns the parts of all spans inside [start, end), in order.
func (t *table) within(start, end uint64) []span {
	return merge(t.ready.within(start, end), t.absent.within(start, end))
}

// await has a table without absent pages lack those of a list, sorted, which are where
// they were at the freeze.
func (t *table) await(pages []span) {
	for i := range pages {
		pages[i].absent = true
	}
	t.awaitRest(pages)
}

// arrive makes absent pages ready that are among pieces of the store, and returns them.
// Those that are zero are not lacked any more.
func (t *table) arrive(pieces []span) (came []span) {
	for _, piece := range pieces {
		for _, from := range t.origins.cut(piece.start, piece.end) {
			for _, sp := range t.absent.cut(uint64(from.off), uint64(from.off)+uint64(from.bytes())) {
				sp = sp.found(piece)
				if !sp.zero() {
					t.ready.insert(sp)
				}
				came = append(came, sp)
			}
		}
	}
	return came
}

// arriveAll is arrive for very many pieces, which are sorted. It goes through the table
// and the pieces once.
func (t *table) arriveAll(pieces []span) []span {
	var rest []span
	came := make([]span, 0, len(pieces))
	for _, sp := range ordered(t.absent.all(), byOrigin) {
		from, end := uint64(sp.off), uint64(sp.off)+uint64(sp.bytes())
		for len(pieces) > 0 && pieces[0].end <= from {
			pieces = pieces[1:]
		}
		at := from
		for _, piece := range pieces {
			if piece.start >= end {
				break
			}
			piece = piece.clip(from, end)
			if at < piece.start {
				rest = append(rest, sp.ofOrigin(at, piece.start))
			}
			came = append(came, sp.ofOrigin(piece.start, piece.end).found(piece))
			at = piece.end
		}
		if at < end {
			rest = append(rest, sp.ofOrigin(at, end))
		}
	}
	t.awaitRest(rest)
	t.ready = setFrom(merge(t.ready.all(), ordered(withoutZeros(came), byAddress)))
	return came
}

// awaitRest has the table lack no other absent pages than rest, in order of origin.
func (t *table) awaitRest(rest []span) {
	t.absent, t.origins = spanSet{}, spanSet{}
	for _, sp := range rest {
		from := uint64(sp.off)
		t.origins.push(span{start: from, end: from + uint64(sp.bytes()), off: int64(sp.start)})
	}
	t.absent = setFrom(ordered(rest, byAddress))
}

func withoutZeros(list []span) []span {
	out := make([]span, 0, len(list))
	for _, sp := range list {
		if !sp.zero() {
			out = append(out, sp)
		}
	}
	return out
}

func byAddress(a, b span) int { return cmp.Compare(a.start, b.start) }
func byOrigin(a, b span) int  { return cmp.Compare(a.off, b.off) }

// ordered sorts list, which mostly is sorted already.
func ordered(list []span, by func(a, b span) int) []span {
	if !slices.IsSortedFunc(list, by) {
		slices.SortFunc(list, by)
	}
	return list
}

func (t *table) all() []span { return merge(t.ready.all(), t.absent.all()) }

func (t *table) clone() table {
	return table{t.ready.clone(), t.absent.clone(), t.origins.clone()}
}

func merge(a, b []span) []span {
	if len(b) == 0 {
		return a
	}
	if len(a) == 0 {
		return b
	}
	return ordered(append(a, b...), byAddress)
}
