package stream

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// TestPagesJoinTheRunBeforeThem adds pages one by one in every mixture of kinds and
// expects each back, in order, in as few runs as can be.
func TestPagesJoinTheRunBeforeThem(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	b := NewBatch()
	for range 50 {
		b.Reset()
		var want []Run
		vpid, addr, from := VPID(1), uint64(0), Place{2, 1 << 30}
		for !b.Full() && len(want) < 600 {
			if random.IntN(8) == 0 {
				addr += PageSize * uint64(random.IntN(3))
			}
			if random.IntN(20) == 0 {
				from.Addr += PageSize
			}
			r := Run{VPID: vpid, Addr: addr, Pages: 1}
			switch random.IntN(12) {
			case 0:
				r.Data = bytes.Repeat([]byte{byte(addr >> 12)}, PageSize)
				b.Page(vpid, addr, r.Data)
			case 1:
				r.Drop = true
				b.Drop(vpid, addr)
			case 2:
				r.Zero = true
				b.Zero(vpid, addr)
			default:
				r.Copy, r.From = true, from
				b.Copy(vpid, addr, from)
			}
			want = append(want, r)
			addr, from.Addr = addr+PageSize, from.Addr+PageSize
		}
		checkPages(t, b.Bytes(), want)
	}
}

// checkPages takes the runs apart into pages.
func checkPages(t *testing.T, batch []byte, want []Run) {
	t.Helper()
	var last Run
	if err := EachRun(batch, func(r Run) error {
		if last.Pages > 0 && last.flags() == r.flags() && last.Addr+uint64(last.Pages)*PageSize == r.Addr && !r.Copy {
			t.Errorf("%d pages at %#x should be in the run before", r.Pages, r.Addr)
		}
		last = r
		for i := range r.Pages {
			w := want[0]
			want = want[1:]
			at := uint64(i) * PageSize
			if r.VPID != w.VPID || r.Addr+at != w.Addr || r.flags() != w.flags() || r.Copy && r.From.Addr+at != w.From.Addr {
				t.Fatalf("page %#x of %+v, want %+v", r.Addr+at, r, w)
			}
			if r.Data != nil && !bytes.Equal(r.Data[at:][:PageSize], w.Data) {
				t.Fatalf("data of page %#x", w.Addr)
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if len(want) > 0 {
		t.Errorf("%d pages are lost", len(want))
	}
}

func TestACopyNeverGrowsIntoWhatItCopies(t *testing.T) {
	b := NewBatch()
	for i := range uint64(2 * MaxCopyPages) {
		b.Copy(1, i*PageSize, Place{1, (i + 3) * PageSize})
		b.Copy(1, 1<<40+i*PageSize, Place{2, i * PageSize})
	}
	for i := range uint64(2 * MaxCopyPages) {
		b.Copy(1, i*PageSize, Place{1, (i + 3) * PageSize})
	}
	for i := range uint64(2 * MaxCopyPages) {
		b.Copy(1, i*PageSize, Place{2, i * PageSize})
	}
	pages := int64(0)
	if err := EachRun(b.Bytes(), func(r Run) error { pages += r.Pages; return nil }); err != nil || pages != 8*MaxCopyPages {
		t.Errorf("%d pages, %v", pages, err)
	}
}

func TestABatchIsFullBeforeItIsLongerThanAFrame(t *testing.T) {
	b := NewBatch()
	page := make([]byte, PageSize)
	for i := uint64(0); !b.Full(); i++ {
		b.Page(VPID(1+i%2), i*PageSize, page)
	}
	if n := len(b.Bytes()); n > MaxBatch || n < MaxBatch-2*(RunHeaderSize+PageSize) {
		t.Errorf("%d bytes", n)
	}
}
