package pagestore

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/migrate-hpc/migrate/stream"
)

// TestABatchIsItsRunsInTurn puts batches of random runs. Some overlap within the batch, some meet
// pages of earlier ones. It compares the store with what the runs leave one after the other.
func TestABatchIsItsRunsInTurn(t *testing.T) {
	s := mustCreate(t)
	rnd := rand.New(rand.NewPCG(5, 6))
	const pages, base = 3000, 0x10000
	model := make([][]byte, pages)
	for round := range 60 {
		var runs []stream.Run
		for range 1 + rnd.IntN(40) {
			at, n := rnd.IntN(pages-16), 1+rnd.IntN(16)
			r := stream.Run{VPID: 7, Addr: uint64(base + at*stream.PageSize), Pages: int64(n)}
			data := make([]byte, n*stream.PageSize)
			from := rnd.IntN(pages - 16)
			switch kind := rnd.IntN(8); {
			case kind < 2:
				r.Zero = true
			case kind == 2:
				r.Drop, data = true, nil
			case kind < 5 && known(model[from:from+n]) && (from+n <= at || at+n <= from):
				r.Copy, r.From = true, stream.Place{VPID: 7, Addr: uint64(base + from*stream.PageSize)}
				data = bytes.Join(model[from:from+n], nil)
			default:
				data = fill(n, uint64(round)<<40+uint64(len(runs))<<32)
				r.Data = data
			}
			for i := range n {
				model[at+i] = nil
				if data != nil {
					model[at+i] = data[i*stream.PageSize : (i+1)*stream.PageSize]
				}
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

// known says that the store has all of the pages.
func known(pages [][]byte) bool {
	return !slices.ContainsFunc(pages, func(p []byte) bool { return p == nil })
}

func TestACopyOfWhatIsNotThereIsRefused(t *testing.T) {
	s := mustCreate(t)
	mustPut(t, s, 1, 0x10000, fill(2, 1))
	for name, from := range map[string]stream.Place{
		"another process": {VPID: 2, Addr: 0x10000}, "behind": {VPID: 1, Addr: 0x11000}, "before": {VPID: 1, Addr: 0xf000},
	} {
		r := stream.Run{VPID: 3, Addr: 0x20000, Pages: 2, Copy: true, From: from}
		if err := s.PutBatch([]stream.Run{r}); !errors.Is(err, ErrMissing) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// BenchmarkOverwrite puts pages that the store has already, as rounds after the first do.
func BenchmarkOverwrite(b *testing.B) {
	for name, step := range map[string]int{"together": 1, "scattered": 3} {
		b.Run(name, func(b *testing.B) {
			s := mustCreate(b)
			const pages = 240
			data := fill(pages, 1)
			for at := 0; at < 64<<20; at += len(data) {
				mustPut(b, s, 1, uint64(at)+stream.PageSize, data)
			}
			var runs []stream.Run
			for i := range pages {
				runs = append(runs, stream.Run{VPID: 1, Addr: uint64(1+i*step) * stream.PageSize, Pages: 1, Data: data[i*stream.PageSize:][:stream.PageSize]})
			}
			b.SetBytes(pages * stream.PageSize)
			for b.Loop() {
				if err := s.PutBatch(runs); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func TestABatchOfMoreRunsThanOneWriteTakesIsWhole(t *testing.T) {
	s := mustCreate(t)
	var runs []stream.Run
	for i := range 3 * maxVectors {
		addr := uint64(2*i+1) * stream.PageSize
		runs = append(runs, stream.Run{VPID: 3, Addr: addr, Pages: 1, Data: fill(1, addr)})
	}
	if err := s.PutBatch(runs); err != nil {
		t.Fatal(err)
	}
	for i := range 3 * maxVectors {
		addr := uint64(2*i+1) * stream.PageSize
		if got := load(t, s, 3, addr, 1)[0]; !bytes.Equal(got, fill(1, addr)) {
			t.Fatalf("run %d differs", i)
		}
	}
}

func TestABatchWithARangeThatNoProcessHasChangesNothing(t *testing.T) {
	s := mustCreate(t)
	good := stream.Run{VPID: 1, Addr: 0x10000, Pages: 1, Data: fill(1, 1)}
	bad := stream.Run{VPID: 1, Addr: 0x10001, Pages: 1, Zero: true}
	if err := s.PutBatch([]stream.Run{good, bad}); !errors.Is(err, ErrRange) {
		t.Fatalf("%v", err)
	}
	if got := load(t, s, 1, 0x10000, 1)[0]; got != nil || s.Bytes() != 0 {
		t.Fatal("a page of it was kept")
	}
}
