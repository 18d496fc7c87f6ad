package pages

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

func flatten(spans []span) flat {
	out := flat{}
	for _, s := range spans {
		for a := s.start; a < s.end; a += stream.PageSize {
			if s.zero() {
				out[a] = zeroOff
			} else {
				out[a] = s.off + int64(a-s.start)
			}
		}
	}
	return out
}

func checkShape(t *testing.T, s *spanSet) {
	t.Helper()
	var last uint64
	var data int64
	for _, l := range s.leaves {
		if len(l) == 0 || len(l) > leafSpans {
			t.Fatalf("leaf of %d spans", len(l))
		}
		for _, sp := range l {
			if sp.start < last || sp.end <= sp.start {
				t.Fatalf("span [%#x, %#x) behind %#x", sp.start, sp.end, last)
			}
			last = sp.end
			if !sp.zero() {
				data += sp.bytes()
			}
		}
	}
	if data != s.data {
		t.Fatalf("set counts %d bytes of data, holds %d", s.data, data)
	}
}

func TestSpanSetAgreesWithPageByPageModel(t *testing.T) {
	const pages = 3000
	rnd := rand.New(rand.NewPCG(1, 2))
	set, model := &spanSet{}, flat{}
	off := int64(0)
	for range 6000 {
		start := rnd.Uint64N(pages) * stream.PageSize
		end := start + (1+rnd.Uint64N(12))*stream.PageSize
		gone := flatten(set.cut(start, end))
		if want := model.cut(start, end); !maps.Equal(gone, want) {
			t.Fatalf("cut [%#x, %#x) = %v, want %v", start, end, gone, want)
		}
		if rnd.IntN(3) > 0 {
			sp := span{start: start, end: end, off: off}
			if rnd.IntN(4) == 0 {
				sp.off = zeroOff
			} else {
				off += sp.bytes()
			}
			set.insert(sp)
			maps.Copy(model, flatten([]span{sp}))
		}
		checkShape(t, set)
	}
	if got := flatten(set.all()); !maps.Equal(got, model) {
		t.Fatal("contents differ at the end")
	}
	if len(set.leaves) < 3 {
		t.Fatalf("%d leaves: the test does not reach splitting", len(set.leaves))
	}
	got := flatten(set.within(100*stream.PageSize, 900*stream.PageSize))
	if want := model.cut(100*stream.PageSize, 900*stream.PageSize); !maps.Equal(got, want) {
		t.Fatal("within differs")
	}
}

func TestSpanSetJoinsWhatContinues(t *testing.T) {
	var s spanSet
	s.insert(span{start: 0, end: stream.PageSize, off: 0})
	s.insert(span{start: 2 * stream.PageSize, end: 3 * stream.PageSize, off: 2 * stream.PageSize})
	s.insert(span{start: stream.PageSize, end: 2 * stream.PageSize, off: stream.PageSize})
	if all := s.all(); len(all) != 1 || all[0].bytes() != 3*stream.PageSize {
		t.Fatalf("spans %v, want one of 3 pages", all)
	}
	s.insert(span{start: 3 * stream.PageSize, end: 4 * stream.PageSize, off: 9 * stream.PageSize})
	if all := s.all(); len(all) != 2 {
		t.Fatalf("spans %v, want 2: offsets do not continue", all)
	}
}

func TestSpanSetCloneIsIndependent(t *testing.T) {
	var s spanSet
	s.insert(span{start: 0, end: 8 * stream.PageSize, off: 0})
	c := s.clone()
	s.cut(0, 4*stream.PageSize)
	if c.data != 8*stream.PageSize || s.data != 4*stream.PageSize {
		t.Fatalf("clone %d, original %d bytes", c.data, s.data)
	}
}

func TestCutAcrossLeavesAgreesWithPageByPageModel(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 8))
	for range 60 {
		var spans []span
		for at := uint64(0); len(spans) < 5*leafSpans; {
			end := at + 1 + rnd.Uint64N(3)
			spans = append(spans, span{start: at * stream.PageSize, end: end * stream.PageSize, off: int64(rnd.Uint32()) * stream.PageSize})
			at = end + rnd.Uint64N(2)
		}
		set, model := setFrom(spans), flatten(spans)
		for range 4 {
			start := rnd.Uint64N(15*leafSpans) * stream.PageSize
			end := start + rnd.Uint64N(10*leafSpans)*stream.PageSize
			gone := flatten(set.cut(start, end))
			if want := model.cut(start, end); !maps.Equal(gone, want) {
				t.Fatalf("cut [%#x, %#x): %d pages, want %d", start, end, len(gone), len(want))
			}
			checkShape(t, &set)
			if !maps.Equal(flatten(set.all()), model) {
				t.Fatal("contents differ")
			}
		}
	}
}
