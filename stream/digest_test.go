package stream

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"testing"
)

// sampleDigests has two runs: three pages, of which one is zero, and one page.
func sampleDigests() []byte {
	var b DigestBatch
	for i := range byte(3) {
		b.Add(1, 0x7f0000001000+uint64(i)*PageSize, PageDigest(42, bytes.Repeat([]byte{i}, PageSize)))
	}
	b.Add(1<<31-1, 0, PageDigest(42, bytes.Repeat([]byte{0xcd}, PageSize)))
	return b.Bytes()
}

func eachDigests(frame []byte) (all []Digests, err error) {
	err = EachDigests(frame, func(d Digests) error {
		all = append(all, d)
		return nil
	})
	return all, err
}

func TestDigestsComeBackAsTheyWereAdded(t *testing.T) {
	all, err := eachDigests(sampleDigests())
	if err != nil || len(all) != 2 {
		t.Fatalf("got %d runs, %v", len(all), err)
	}
	if d := all[0]; d.VPID != 1 || d.Addr != 0x7f0000001000 || d.Pages() != 3 {
		t.Errorf("first run: %+v", d)
	}
	want := PageDigest(42, bytes.Repeat([]byte{0xcd}, PageSize))
	if d := all[1]; d.VPID != 1<<31-1 || d.Addr != 0 || !bytes.Equal(d.Sums, want[:]) {
		t.Errorf("second run: %+v", d)
	}
	if want == PageDigest(43, bytes.Repeat([]byte{0xcd}, PageSize)) {
		t.Error("the seed makes no difference")
	}
	if seed, err := ParseDigestHead(DigestHead(1<<63 + 5)); err != nil || seed != 1<<63+5 {
		t.Errorf("seed %d, %v", seed, err)
	}
}

func TestTheFormatOfDigestsIsThatOfTheGoldenFile(t *testing.T) {
	want, err := os.ReadFile("testdata/format-1/digests.bin")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(append(DigestHead(42), sampleDigests()...), want) {
		t.Error("the format has changed")
	}
}

func TestAFullBatchOfDigestsIsNoLongerThanAFrame(t *testing.T) {
	var b DigestBatch
	for i := uint64(0); !b.Full(); i++ {
		b.Add(1, i*2*PageSize, [DigestSize]byte{1})
	}
	if n := len(b.Bytes()); n > MaxBatch {
		t.Errorf("%d bytes", n)
	}
	b.Reset()
	b.Add(1, 0, [DigestSize]byte{1})
	if all, err := eachDigests(b.Bytes()); err != nil || len(all) != 1 {
		t.Errorf("after Reset: %v, %v", all, err)
	}
}

func TestMalformedDigestsAreRefused(t *testing.T) {
	edit := func(at int, v uint32) []byte {
		b := bytes.Clone(sampleDigests())
		binary.LittleEndian.PutUint32(b[at:], v)
		return b
	}
	for name, frame := range map[string][]byte{
		"vpid zero":          edit(0, 0),
		"vpid negative":      edit(0, 1<<31),
		"no pages":           edit(4, 0),
		"pages without sums": edit(4, 1<<32-1),
		"address off a page": edit(8, PageSize+1),
		"address too high":   edit(12, 1<<31),
		"header cut":         sampleDigests()[:digestHeaderSize-1],
		"sum cut":            sampleDigests()[:digestHeaderSize+3*DigestSize-1],
	} {
		if _, err := eachDigests(frame); !errors.Is(err, ErrDigests) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	for _, head := range [][]byte{nil, make([]byte, 7), make([]byte, 9)} {
		if _, err := ParseDigestHead(head); !errors.Is(err, ErrDigests) {
			t.Errorf("head of %d bytes: %v", len(head), err)
		}
	}
}

func FuzzEachDigests(f *testing.F) {
	f.Add(sampleDigests())
	f.Fuzz(func(t *testing.T, frame []byte) {
		size := 0
		err := EachDigests(frame, func(d Digests) error {
			size += digestHeaderSize + len(d.Sums)
			return nil
		})
		if err == nil && size != len(frame) {
			t.Errorf("%d bytes of %d were read", size, len(frame))
		}
		if err != nil && !errors.Is(err, ErrDigests) {
			t.Errorf("untyped error %v", err)
		}
	})
}
