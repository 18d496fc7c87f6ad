package stream

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"testing"
)

// sampleBatch has a run with data, a long zero run, one more with data, a copy and a
// run to be forgotten.
func sampleBatch() []byte {
	b := AppendRun(nil, 1, 0x7f0000001000, bytes.Repeat([]byte{0xab}, 2*PageSize))
	b = AppendZero(b, 1, 0x7f0000003000, 1<<20)
	b = AppendRun(b, 1<<31-1, 0, bytes.Repeat([]byte{0xcd}, PageSize))
	b = AppendCopy(b, 2, 0x7f0000001000, 2, Place{1, 0x7f0000001000})
	return AppendDrop(b, 3, 0x7f0000001000, 1<<20)
}

func collect(frame []byte) (runs []Run, err error) {
	err = EachRun(frame, func(r Run) error {
		runs = append(runs, r)
		return nil
	})
	return runs, err
}

func TestABatchComesBackAsItWasAppended(t *testing.T) {
	runs, err := collect(sampleBatch())
	if err != nil || len(runs) != 5 {
		t.Fatalf("got %d runs, %v", len(runs), err)
	}
	if r := runs[0]; r.VPID != 1 || r.Addr != 0x7f0000001000 || r.Pages != 2 || r.Zero || !bytes.Equal(r.Data, bytes.Repeat([]byte{0xab}, 2*PageSize)) {
		t.Errorf("first run: %+v", r)
	}
	if r := runs[1]; r.Addr != 0x7f0000003000 || r.Pages != 1<<20 || !r.Zero || r.Data != nil {
		t.Errorf("zero run: %+v", r)
	}
	if r := runs[2]; r.VPID != 1<<31-1 || r.Addr != 0 || r.Pages != 1 || len(r.Data) != PageSize {
		t.Errorf("third run: %+v", r)
	}
	if r := runs[3]; r.VPID != 2 || r.Pages != 2 || !r.Copy || r.From != (Place{1, 0x7f0000001000}) || r.Data != nil {
		t.Errorf("copy: %+v", r)
	}
	if r := runs[4]; r.VPID != 3 || r.Pages != 1<<20 || !r.Drop || r.Data != nil {
		t.Errorf("run to be forgotten: %+v", r)
	}
}

// The file holds sampleBatch. A change of it breaks
// moves between nodes with different versions of migrate.
func TestTheFormatOfABatchIsThatOfTheGoldenFile(t *testing.T) {
	want, err := os.ReadFile("testdata/format-1/batch.bin")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(sampleBatch(), want) {
		t.Error("the format has changed")
	}
}

func TestAHeaderWithDataBehindItIsARun(t *testing.T) {
	data := bytes.Repeat([]byte{7}, 3*PageSize)
	b := append(AppendHeader(nil, 9, PageSize, 3), data...)
	if !bytes.Equal(b, AppendRun(nil, 9, PageSize, data)) {
		t.Error("AppendHeader and AppendRun differ")
	}
	if n := RunHeaderSize + MaxRunPages*PageSize; n > 1<<20 {
		t.Errorf("the longest run has %d bytes, a frame at most 1 MiB", n)
	}
}

func TestMalformedRunsAreRefused(t *testing.T) {
	page := make([]byte, PageSize)
	edit := func(at int, v uint32) []byte {
		b := AppendRun(nil, 1, PageSize, page)
		binary.LittleEndian.PutUint32(b[at:], v)
		return b
	}
	for name, frame := range map[string][]byte{
		"vpid zero":          edit(0, 0),
		"vpid negative":      edit(0, 1<<31),
		"unknown flag":       edit(4, 8),
		"two flags":          edit(4, 3),
		"copy without place": AppendCopy(nil, 1, 0, 1, Place{2, 0})[:RunHeaderSize+copyRefSize-1],
		"copy of process 0":  AppendCopy(nil, 1, 0, 1, Place{0, 0}),
		"copy off a page":    AppendCopy(nil, 1, 0, 1, Place{2, 1}),
		"copy from beyond":   AppendCopy(nil, 1, 0, 2, Place{2, MaxAddress - PageSize}),
		"copy of itself":     AppendCopy(nil, 1, 0, 2, Place{1, PageSize}),
		"copy of too much":   AppendCopy(nil, 1, 0, MaxCopyPages+1, Place{2, 0}),
		"drop beyond":        AppendDrop(nil, 1, MaxAddress-PageSize, 2),
		"address off a page": edit(8, PageSize+1),
		"address too high":   edit(12, 1<<31),
		"no pages":           edit(16, 0),
		"pages without data": edit(16, 2),
		"most pages":         edit(16, 1<<32-1),
		"reserved set":       edit(20, 1),
		"header cut":         AppendRun(nil, 1, 0, page)[:RunHeaderSize-1],
		"data cut":           AppendRun(nil, 1, 0, page)[:RunHeaderSize+PageSize-1],
		"zeros beyond":       AppendZero(nil, 1, MaxAddress-PageSize, 2),
		"rest of a header":   append(AppendZero(nil, 1, 0, 1), 0),
	} {
		if _, err := collect(frame); !errors.Is(err, ErrRun) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestEachRunStopsAtTheCallersError(t *testing.T) {
	stop := errors.New("stop")
	calls := 0
	err := EachRun(sampleBatch(), func(Run) error { calls++; return stop })
	if !errors.Is(err, stop) || calls != 1 {
		t.Errorf("got %v after %d calls", err, calls)
	}
}

func FuzzEachRun(f *testing.F) {
	f.Add(sampleBatch())
	f.Add(AppendZero(nil, 1, 0, 1))
	f.Fuzz(func(t *testing.T, frame []byte) {
		var again []byte
		err := EachRun(frame, func(r Run) error {
			switch {
			case r.Zero:
				again = AppendZero(again, r.VPID, r.Addr, r.Pages)
			case r.Drop:
				again = AppendDrop(again, r.VPID, r.Addr, r.Pages)
			case r.Copy:
				again = AppendCopy(again, r.VPID, r.Addr, r.Pages, r.From)
			default:
				again = AppendRun(again, r.VPID, r.Addr, r.Data)
			}
			return nil
		})
		if err == nil && !bytes.Equal(again, frame) {
			t.Error("what was read, written again, differs")
		}
		if err != nil && !errors.Is(err, ErrRun) {
			t.Errorf("untyped error %v", err)
		}
	})
}
