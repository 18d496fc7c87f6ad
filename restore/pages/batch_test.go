package pages

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/migrate-hpc/migrate/checkpoint/image"
)

// TestABatchIsItsRunsInTurn puts batches of random runs, of which some overlap
// within the batch and some meet pages of earlier ones, and holds the store
// against what its runs, one after the other, must leave.
func TestABatchIsItsRunsInTurn(t *testing.T) {
	s := mustCreate(t)
	rnd := rand.New(rand.NewPCG(5, 6))
	const pages, base = 3000, 0x10000
	model := make([][]byte, pages)
	for round := range 60 {
		var runs []image.Run
		for range 1 + rnd.IntN(40) {
			at, n := rnd.IntN(pages-16), 1+rnd.IntN(16)
			r := image.Run{VPID: 7, Addr: uint64(base + at*pageSize), Pages: int64(n), Zero: rnd.IntN(4) == 0}
			data := make([]byte, n*pageSize)
			if !r.Zero {
				data = fill(n, uint64(round)<<40+uint64(len(runs))<<32)
				r.Data = data
			}
			for i := range n {
				model[at+i] = data[i*pageSize : (i+1)*pageSize]
			}
			runs = append(runs, r)
		}
		if err := s.PutBatch(runs); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range []*Store{s, reopen(t, s)} {
		for i, got := range load(t, s, 7, base, pages) {
			if !bytes.Equal(got, model[i]) {
				t.Fatalf("page %d differs", i)
			}
		}
	}
}

func TestABatchOfMoreRunsThanOneWriteTakesIsWhole(t *testing.T) {
	s := mustCreate(t)
	var runs []image.Run
	for i := range 3 * maxVectors {
		addr := uint64(2*i+1) * pageSize
		runs = append(runs, image.Run{VPID: 3, Addr: addr, Pages: 1, Data: fill(1, addr)})
	}
	if err := s.PutBatch(runs); err != nil {
		t.Fatal(err)
	}
	for i := range 3 * maxVectors {
		addr := uint64(2*i+1) * pageSize
		if got := load(t, s, 3, addr, 1)[0]; !bytes.Equal(got, fill(1, addr)) {
			t.Fatalf("run %d differs", i)
		}
	}
}

func TestABatchWithARangeThatNoProcessHasChangesNothing(t *testing.T) {
	s := mustCreate(t)
	good := image.Run{VPID: 1, Addr: 0x10000, Pages: 1, Data: fill(1, 1)}
	bad := image.Run{VPID: 1, Addr: 0x10001, Pages: 1, Zero: true}
	if err := s.PutBatch([]image.Run{good, bad}); !errors.Is(err, ErrRange) {
		t.Fatalf("%v", err)
	}
	if got := load(t, s, 1, 0x10000, 1)[0]; got != nil || s.Bytes() != 0 {
		t.Fatal("a page of it was kept")
	}
}
