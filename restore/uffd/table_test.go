package uffd

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/migrate-hpc/migrate/restore/pageset"
	"github.com/migrate-hpc/migrate/stream"
)

const tablePages = 600

// scattered is a table whose absent pages have moved since the freeze, as by mremap. Batches of
// events have split it.
func scattered(rnd *rand.Rand, origins []pageset.Range) (t table) {
	places := rnd.Perm(len(origins))
	for i, r := range origins {
		start := uint64(places[i]+1) * 100 * stream.PageSize
		t.insert(pageset.Span{Start: start, End: start + r.End - r.Start, Off: int64(r.Start), Absent: true,
			Batch: rnd.Uint32N(2), Weak: rnd.IntN(2) == 0})
	}
	return t
}

func TestWhatArrivesAtOnceEndsWhereItWouldPieceByPiece(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	for range 200 {
		one := scattered(rnd, someRanges(rnd))
		all := one.clone()
		var pieces []pageset.Span
		for _, r := range someRanges(rnd) {
			p := pageset.Span{Start: r.Start, End: r.End, Off: int64(r.Start) << 8}
			if rnd.IntN(3) == 0 {
				p.Off = pageset.ZeroOff
			}
			pieces = append(pieces, p)
		}
		got, want := all.arriveAll(pieces), one.arrive(pieces)
		if !slices.Equal(perPage(got), perPage(want)) {
			t.Fatalf("arrived %v, want %v", got, want)
		}
		for name, sets := range map[string][2]*pageset.Set{
			"ready": {&all.ready, &one.ready}, "absent": {&all.absent, &one.absent}, "origins": {&all.origins, &one.origins},
		} {
			wantOrder(t, sets[0].All())
			if got, want := perPage(sets[0].All()), perPage(sets[1].All()); !slices.Equal(got, want) {
				t.Fatalf("%s: %v, want %v", name, got, want)
			}
		}
	}
}

// perPage takes spans apart, so that it does not matter how they were joined.
func perPage(spans []pageset.Span) (out []pageset.Span) {
	for _, sp := range spans {
		for a := sp.Start; a < sp.End; a += stream.PageSize {
			out = append(out, sp.Clip(a, a+stream.PageSize))
		}
	}
	slices.SortFunc(out, byAddress)
	return out
}
