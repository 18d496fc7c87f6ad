package pageset

import (
	"maps"
	"math/rand/v2"
	"testing"

	"github.com/migrate-hpc/migrate/stream"
)

// flat is the obvious model of a spanSet: one entry per page.
type flat map[uint64]int64

func (f flat) cut(start, end uint64) flat {
	out := flat{}
	for a := start; a < end; a += stream.PageSize {
		if off, ok := f[a]; ok {
			out[a] = off
			delete(f, a)
		}
	}
	return out
}

func flatten(spans []Span) flat {
	out := flat{}
	for _, s := range spans {
		for a := s.Start; a < s.End; a += stream.PageSize {
			if s.Zero() {
				out[a] = ZeroOff
			} else {
				out[a] = s.Off + int64(a-s.Start)
			}
		}
	}
	return out
}

func checkShape(t *testing.T, s *Set) {
	t.Helper()
	var last uint64
	var data int64
	for _, l := range s.Leaves {
		if len(l) == 0 || len(l) > leafSpans {
			t.Fatalf("leaf of %d spans", len(l))
		}
		for _, sp := range l {
			if sp.Start < last || sp.End <= sp.Start {
				t.Fatalf("span [%#x, %#x) behind %#x", sp.Start, sp.End, last)
			}
			last = sp.End
			if !sp.Zero() {
				data += sp.Bytes()
			}
		}
	}
	if data != s.Data {
		t.Fatalf("set counts %d bytes of data, holds %d", s.Data, data)
	}
}

func TestSpanSetAgreesWithPageByPageModel(t *testing.T) {
	const pages = 3000
	rnd := rand.New(rand.NewPCG(1, 2))
	set, model := &Set{}, flat{}
	off := int64(0)
	for range 6000 {
		start := rnd.Uint64N(pages) * stream.PageSize
		end := start + (1+rnd.Uint64N(12))*stream.PageSize
		gone := flatten(set.Cut(start, end))
		if want := model.cut(start, end); !maps.Equal(gone, want) {
			t.Fatalf("cut [%#x, %#x) = %v, want %v", start, end, gone, want)
		}
		if rnd.IntN(3) > 0 {
			sp := Span{Start: start, End: end, Off: off}
			if rnd.IntN(4) == 0 {
				sp.Off = ZeroOff
			} else {
				off += sp.Bytes()
			}
			set.Insert(sp)
			maps.Copy(model, flatten([]Span{sp}))
		}
		checkShape(t, set)
	}
	if got := flatten(set.All()); !maps.Equal(got, model) {
		t.Fatal("contents differ at the end")
	}
	if len(set.Leaves) < 3 {
		t.Fatalf("%d leaves: the test does not reach splitting", len(set.Leaves))
	}
	got := flatten(set.Within(100*stream.PageSize, 900*stream.PageSize))
	if want := model.cut(100*stream.PageSize, 900*stream.PageSize); !maps.Equal(got, want) {
		t.Fatal("within differs")
	}
}

func TestSpanSetJoinsWhatContinues(t *testing.T) {
	var s Set
	s.Insert(Span{Start: 0, End: stream.PageSize, Off: 0})
	s.Insert(Span{Start: 2 * stream.PageSize, End: 3 * stream.PageSize, Off: 2 * stream.PageSize})
	s.Insert(Span{Start: stream.PageSize, End: 2 * stream.PageSize, Off: stream.PageSize})
	if all := s.All(); len(all) != 1 || all[0].Bytes() != 3*stream.PageSize {
		t.Fatalf("spans %v, want one of 3 pages", all)
	}
	s.Insert(Span{Start: 3 * stream.PageSize, End: 4 * stream.PageSize, Off: 9 * stream.PageSize})
	if all := s.All(); len(all) != 2 {
		t.Fatalf("spans %v, want 2: offsets do not continue", all)
	}
}

func TestSpanSetCloneIsIndependent(t *testing.T) {
	var s Set
	s.Insert(Span{Start: 0, End: 8 * stream.PageSize, Off: 0})
	c := s.Clone()
	s.Cut(0, 4*stream.PageSize)
	if c.Data != 8*stream.PageSize || s.Data != 4*stream.PageSize {
		t.Fatalf("clone %d, original %d bytes", c.Data, s.Data)
	}
}

func TestCutAcrossLeavesAgreesWithPageByPageModel(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 8))
	for range 60 {
		var spans []Span
		for at := uint64(0); len(spans) < 5*leafSpans; {
			end := at + 1 + rnd.Uint64N(3)
			spans = append(spans, Span{Start: at * stream.PageSize, End: end * stream.PageSize, Off: int64(rnd.Uint32()) * stream.PageSize})
			at = end + rnd.Uint64N(2)
		}
		set, model := From(spans), flatten(spans)
		for range 4 {
			start := rnd.Uint64N(15*leafSpans) * stream.PageSize
			end := start + rnd.Uint64N(10*leafSpans)*stream.PageSize
			gone := flatten(set.Cut(start, end))
			if want := model.cut(start, end); !maps.Equal(gone, want) {
				t.Fatalf("cut [%#x, %#x): %d pages, want %d", start, end, len(gone), len(want))
			}
			checkShape(t, &set)
			if !maps.Equal(flatten(set.All()), model) {
				t.Fatal("contents differ")
			}
		}
	}
}
