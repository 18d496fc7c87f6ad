package pages

import (
	"cmp"
	"slices"

	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/stream"
)

type addrRange struct{ start, end uint64 }

func (r addrRange) pages() int64 { return int64((r.end - r.start) / stream.PageSize) }

func bytesIn(list []addrRange) (n int64) {
	for _, r := range list {
		n += int64(r.end - r.start)
	}
	return n
}

// lazyRanges returns where the lazy regions lie: sorted, none overlapping.
func lazyRanges(regions []image.Region) []addrRange {
	order := func(a, b image.Region) int { return cmp.Compare(a.Addr, b.Addr) }
	if !slices.IsSortedFunc(regions, order) {
		regions = slices.SortedFunc(slices.Values(regions), order)
	}
	var out []addrRange
	for _, r := range regions {
		if r.Lazy && r.Pages > 0 {
			out = join(out, addrRange{r.Addr, r.End()})
		}
	}
	return out
}

// join adds a range that does not begin in front of the last one.
func join(list []addrRange, r addrRange) []addrRange {
	if n := len(list); n > 0 && r.start <= list[n-1].end {
		list[n-1].end = max(list[n-1].end, r.end)
		return list
	}
	return append(list, r)
}

func lazyOf(regions map[stream.VPID][]image.Region) map[stream.VPID][]addrRange {
	out := make(map[stream.VPID][]addrRange, len(regions))
	for vpid, list := range regions {
		out[vpid] = lazyRanges(list)
	}
	return out
}

// ranges returns where the set has pages: sorted, none touching another.
func (s *spanSet) ranges() (out []addrRange) {
	for _, leaf := range s.leaves {
		for _, sp := range leaf {
			out = join(out, addrRange{sp.start, sp.end})
		}
	}
	return out
}

// subtract returns what of a is not in b, both sorted and none overlapping. It goes
// through them once: either may have a million.
func subtract(a, b []addrRange) (out []addrRange) {
	for _, r := range a {
		for len(b) > 0 && b[0].end <= r.start {
			b = b[1:]
		}
		at := r.start
		for _, other := range b {
			if other.start >= r.end {
				break
			}
			if at < other.start {
				out = append(out, addrRange{at, other.start})
			}
			at = other.end
		}
		if at < r.end {
			out = append(out, addrRange{at, r.end})
		}
	}
	return out
}
