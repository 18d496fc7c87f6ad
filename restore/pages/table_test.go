package pages

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/migrate-hpc/migrate/stream"
)

const tablePages = 600

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
