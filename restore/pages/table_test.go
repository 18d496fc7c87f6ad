package pages

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/stream"
)

const tablePages = 600

// pagesIn names each page of ranges.
func pagesIn(ranges []addrRange) map[uint64]bool {
	out := map[uint64]bool{}
	for _, r := range ranges {
		for a := r.start; a < r.end; a += stream.PageSize {
			out[a] = true
		}
	}
	return out
}

// someRanges are sorted, and some touch.
func someRanges(rnd *rand.Rand) (out []addrRange) {
	for at := rnd.Uint64N(9); at < tablePages; {
		end := at + 1 + rnd.Uint64N(9)
		out = append(out, addrRange{at * stream.PageSize, end * stream.PageSize})
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
		if got := pagesIn(subtract(a, b)); !maps.Equal(got, want) {
			t.Fatalf("%v without %v = %v", a, b, subtract(a, b))
		}
	}
}

func TestLazyRangesAreSortedAndJoined(t *testing.T) {
	got := lazyRanges([]image.Region{
		{Addr: 8 * stream.PageSize, Pages: 2, Lazy: true}, {Addr: stream.PageSize, Pages: 1, Lazy: true},
		{Addr: 2 * stream.PageSize, Pages: 3, Lazy: true}, {Addr: 5 * stream.PageSize, Pages: 3},
	})
	want := []addrRange{{stream.PageSize, 5 * stream.PageSize}, {8 * stream.PageSize, 10 * stream.PageSize}}
	if !slices.Equal(got, want) {
		t.Fatalf("%v, want %v", got, want)
	}
}

// scattered is a table whose absent pages have been moved about since the freeze, as
// mremap does, and split by batches of events.
func scattered(rnd *rand.Rand, origins []addrRange) (t table) {
	places := rnd.Perm(len(origins))
	for i, r := range origins {
		start := uint64(places[i]+1) * 100 * stream.PageSize
		t.insert(span{start: start, end: start + r.end - r.start, off: int64(r.start), absent: true,
			batch: rnd.Uint32N(2), weak: rnd.IntN(2) == 0})
	}
	return t
}

func TestWhatArrivesAtOnceEndsWhereItWouldPieceByPiece(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	for range 200 {
		one := scattered(rnd, someRanges(rnd))
		all := one.clone()
		var pieces []span
		for _, r := range someRanges(rnd) {
			p := span{start: r.start, end: r.end, off: int64(r.start) << 8}
			if rnd.IntN(3) == 0 {
				p.off = zeroOff
			}
			pieces = append(pieces, p)
		}
		got, want := all.arriveAll(pieces), one.arrive(pieces)
		if !slices.Equal(perPage(got), perPage(want)) {
			t.Fatalf("arrived %v, want %v", got, want)
		}
		for name, sets := range map[string][2]*spanSet{
			"ready": {&all.ready, &one.ready}, "absent": {&all.absent, &one.absent}, "origins": {&all.origins, &one.origins},
		} {
			checkShape(t, sets[0])
			if got, want := perPage(sets[0].all()), perPage(sets[1].all()); !slices.Equal(got, want) {
				t.Fatalf("%s: %v, want %v", name, got, want)
			}
		}
	}
}

// perPage takes spans apart, so that it does not matter how they were joined.
func perPage(spans []span) (out []span) {
	for _, sp := range spans {
		for a := sp.start; a < sp.end; a += stream.PageSize {
			out = append(out, sp.clip(a, a+stream.PageSize))
		}
	}
	slices.SortFunc(out, byAddress)
	return out
}
