package pageset

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/stream"
)

const rangePages = 600

// pagesIn names each page of ranges.
func pagesIn(ranges []Range) map[uint64]bool {
	out := map[uint64]bool{}
	for _, r := range ranges {
		for a := r.Start; a < r.End; a += stream.PageSize {
			out[a] = true
		}
	}
	return out
}

// someRanges are sorted, and some touch.
func someRanges(rnd *rand.Rand) (out []Range) {
	for at := rnd.Uint64N(9); at < rangePages; {
		end := at + 1 + rnd.Uint64N(9)
		out = append(out, Range{at * stream.PageSize, end * stream.PageSize})
		at = end + rnd.Uint64N(9)
	}
	return out
}

func TestSubtractAgreesWithPageByPageModel(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		a, b := someRanges(rnd), someRanges(rnd)
		want := pagesIn(a)
		for addr := range pagesIn(b) {
			delete(want, addr)
		}
		if got := pagesIn(Subtract(a, b)); !maps.Equal(got, want) {
			t.Fatalf("%v without %v = %v", a, b, Subtract(a, b))
		}
	}
}

func TestLazyRangesAreSortedAndJoined(t *testing.T) {
	got := lazyRanges([]image.Region{
		{Addr: 8 * stream.PageSize, Pages: 2, Lazy: true}, {Addr: stream.PageSize, Pages: 1, Lazy: true},
		{Addr: 2 * stream.PageSize, Pages: 3, Lazy: true}, {Addr: 5 * stream.PageSize, Pages: 3},
	})
	want := []Range{{stream.PageSize, 5 * stream.PageSize}, {8 * stream.PageSize, 10 * stream.PageSize}}
	if !slices.Equal(got, want) {
		t.Fatalf("%v, want %v", got, want)
	}
}
