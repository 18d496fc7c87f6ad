package pageset

import (
	"cmp"
	"slices"

	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/stream"
)

type Range struct{ Start, End uint64 }

func (r Range) Pages() int64 { return int64((r.End - r.Start) / stream.PageSize) }

func BytesIn(list []Range) (n int64) {
	for _, r := range list {
		n += int64(r.End - r.Start)
	}
	return n
}

// lazyRanges returns where the lazy regions lie: sorted, none overlapping.
func lazyRanges(regions []image.Region) []Range {
	order := func(a, b image.Region) int { return cmp.Compare(a.Addr, b.Addr) }
	if !slices.IsSortedFunc(regions, order) {
		regions = slices.SortedFunc(slices.Values(regions), order)
	}
	var out []Range
	for _, r := range regions {
		if r.Lazy && r.Pages > 0 {
			out = join(out, Range{r.Addr, r.End()})
		}
	}
	return out
}

// join adds a range that does not begin in front of the last one.
func join(list []Range, r Range) []Range {
	if n := len(list); n > 0 && r.Start <= list[n-1].End {
		list[n-1].End = max(list[n-1].End, r.End)
		return list
	}
	return append(list, r)
}

func LazyOf(regions map[stream.VPID][]image.Region) map[stream.VPID][]Range {
	out := make(map[stream.VPID][]Range, len(regions))
	for vpid, list := range regions {
		out[vpid] = lazyRanges(list)
	}
	return out
}

// Ranges returns where the set has pages: sorted, none touching another.
func (s *Set) Ranges() (out []Range) {
	for _, leaf := range s.Leaves {
		for _, sp := range leaf {
			out = join(out, Range{sp.Start, sp.End})
		}
	}
	return out
}

// Subtract returns what of a is not in b, both sorted and none overlapping. It goes
// through them once: either may have a million.
func Subtract(a, b []Range) (out []Range) {
	for _, r := range a {
		for len(b) > 0 && b[0].End <= r.Start {
			b = b[1:]
		}
		at := r.Start
		for _, other := range b {
			if other.Start >= r.End {
				break
			}
			if at < other.Start {
				out = append(out, Range{at, other.Start})
			}
			at = other.End
		}
		if at < r.End {
			out = append(out, Range{at, r.End})
		}
	}
	return out
}
