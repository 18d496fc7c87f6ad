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

// arrive removes the absent pages whose origin is in [start, end) and returns them.
func (t *table) arrive(start, end uint64) []span {
	var out []span
	for _, from := range t.origins.cut(start, end) {
		out = append(out, t.absent.cut(uint64(from.off), uint64(from.off)+uint64(from.bytes()))...)
	}
	return out
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
	all := append(a, b...)
	slices.SortFunc(all, func(x, y span) int { return cmp.Compare(x.start, y.start) })
	return all
}
