package pagestore

import (
	"github.com/migrate-hpc/migrate/restore/pageset"
	"github.com/migrate-hpc/migrate/stream"
)

// index says which pages of a process lie where in the data file.
type index map[stream.VPID]*pageset.Set

// of returns the pages of one process, to be changed.
func (x index) of(vpid stream.VPID) *pageset.Set { return pageset.Of(x, vpid) }

// gaps returns the lazy pages that the index lacks.
func (x index) gaps(lazy map[stream.VPID][]pageset.Range) map[stream.VPID][]pageset.Range {
	out := make(map[stream.VPID][]pageset.Range, len(lazy))
	for vpid, ranges := range lazy {
		out[vpid] = ranges
		if t := x[vpid]; t != nil {
			out[vpid] = pageset.Subtract(ranges, t.Ranges())
		}
	}
	return out
}

// presentUntil says whether the page at addr is known, and up to where that is so.
func (x index) presentUntil(vpid stream.VPID, addr, end uint64) (here bool, next uint64) {
	sp, ok := x.of(vpid).Next(addr)
	switch {
	case !ok || sp.Start >= end:
		return false, end
	case sp.Start > addr:
		return false, sp.Start
	}
	return true, min(sp.End, end)
}

// bytes is the size of all pages; zero pages are none.
func (x index) bytes() (n int64) {
	for _, t := range x {
		n += t.Data
	}
	return n
}

// bytesOf is bytes of one process.
func (x index) bytesOf(vpid stream.VPID) int64 {
	if t := x[vpid]; t != nil {
		return t.Data
	}
	return 0
}

// take removes the pages in [start, end) and returns them.
func (x index) take(vpid stream.VPID, start, end uint64) []pageset.Span {
	if t := x[vpid]; t != nil {
		return t.Cut(start, end)
	}
	return nil
}

// held returns the pages in [start, end).
func (x index) held(vpid stream.VPID, start, end uint64) []pageset.Span {
	if t := x[vpid]; t != nil {
		return t.Within(start, end)
	}
	return nil
}
