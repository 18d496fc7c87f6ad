package image

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/migrate-hpc/migrate/stream"
)

const goldenDir = "testdata/criu-4.2"

// pagemap makes an image of entries, each a list of field, value, field, …
func pagemap(entries ...[]uint64) []byte {
	b := binary.LittleEndian.AppendUint32(nil, magicCommon)
	b = binary.LittleEndian.AppendUint32(b, magicPagemap)
	b = appendRecord(b, []byte{8, 1})
	for _, e := range entries {
		var msg []byte
		for i := 0; i < len(e); i += 2 {
			msg = protowire.AppendTag(msg, protowire.Number(e[i]), protowire.VarintType)
			msg = protowire.AppendVarint(msg, e[i+1])
		}
		b = appendRecord(b, msg)
	}
	return b
}

// The golden directory is from CRIU 4.2.1: a lazy dump of a small job.
func TestPagemapsOfARealLazyDumpAreRead(t *testing.T) {
	all, err := Pagemaps(goldenDir)
	if err != nil || len(all) != 1 {
		t.Fatalf("got %d processes, %v", len(all), err)
	}
	var lazy, present int64
	for _, r := range all[1] {
		switch {
		case r.Lazy && !r.Present:
			lazy += r.Pages
		case r.Present && !r.Lazy:
			present += r.Pages
		default:
			t.Errorf("region %+v is neither lazy nor present", r)
		}
	}
	if present != 7 { // the pages image of that dump had 28672 bytes
		t.Errorf("%d pages are present", present)
	}
	if lazy < 4<<20/stream.PageSize {
		t.Errorf("%d pages are lazy, the job had filled 4 MiB", lazy)
	}
	if want := (Region{Addr: 0x400000, Pages: 1, Present: true}); all[1][0] != want {
		t.Errorf("first region %+v", all[1][0])
	}
}

func TestEntriesOfAllVersionsOfCRIUAreUnderstood(t *testing.T) {
	const big = 1 << 33
	regions, err := decodePagemap(pagemap(
		[]uint64{1, 0x1000, 2, 3, 4, flagLazy},
		[]uint64{1, 0x4000, 2, 0, 4, flagPresent, 5, 2},
		[]uint64{1, 0x6000, 2, 1},
		[]uint64{1, 0x7000, 2, 1, 3, 1},
		[]uint64{1, 0x8000, 2, 0, 4, flagParent, 5, big, 9, 1},
	))
	want := []Region{
		{Addr: 0x1000, Pages: 3, Lazy: true},
		{Addr: 0x4000, Pages: 2, Present: true},
		{Addr: 0x6000, Pages: 1, Present: true},
		{Addr: 0x7000, Pages: 1, Parent: true},
		{Addr: 0x8000, Pages: big, Parent: true},
	}
	if err != nil || !reflect.DeepEqual(regions, want) {
		t.Errorf("got %+v, %v", regions, err)
	}
}

func TestMalformedPagemapsAreRefused(t *testing.T) {
	good := pagemap([]uint64{1, 0x1000, 5, 1})
	for name, data := range map[string][]byte{
		"empty":          nil,
		"other magic":    append([]byte{0}, good[1:]...),
		"no head":        good[:8],
		"cut in length":  good[:16],
		"cut in entry":   good[:len(good)-1],
		"no address":     pagemap([]uint64{5, 1}),
		"no pages":       pagemap([]uint64{1, 0x1000}),
		"off a page":     pagemap([]uint64{1, 0x1001, 5, 1}),
		"beyond memory":  pagemap([]uint64{1, 0x1000, 5, 1 << 60}),
		"overlap":        pagemap([]uint64{1, 0x1000, 5, 2}, []uint64{1, 0x2000, 5, 1}),
		"backwards":      pagemap([]uint64{1, 0x3000, 5, 1}, []uint64{1, 0x1000, 5, 1}),
		"bad tag":        appendRecord(pagemap(), []byte{0xff}),
		"cut in a field": appendRecord(pagemap(), []byte{8, 0xff}),
	} {
		if _, err := decodePagemap(data); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestOnlyPagemapsOfProcessesAreRead(t *testing.T) {
	dir := t.TempDir()
	if _, err := Pagemaps(dir); !errors.Is(err, ErrMissing) {
		t.Errorf("empty directory: got %v", err)
	}
	for name, data := range map[string][]byte{
		"pagemap-17.img":       pagemap(),
		"pagemap-5.img":        pagemap([]uint64{1, 0x1000, 5, 1}),
		"pagemap-shmem-17.img": nil,
		"pagemap-017.img":      nil,
		"pagemap-0.img":        nil,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	all, err := Pagemaps(dir)
	if err != nil || len(all) != 2 || len(all[5]) != 1 || len(all[17]) != 0 {
		t.Errorf("got %v, %v", all, err)
	}
}

func FuzzPagemap(f *testing.F) {
	golden, err := os.ReadFile(filepath.Join(goldenDir, "pagemap-1.img"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(golden)
	f.Add(pagemap([]uint64{1, 0x1000, 2, 3, 4, flagLazy}))
	f.Fuzz(func(t *testing.T, data []byte) {
		regions, err := decodePagemap(data)
		if err != nil && !errors.Is(err, ErrFormat) {
			t.Errorf("untyped error %v", err)
		}
		var end uint64
		for _, r := range regions {
			if r.Addr < end || r.Pages <= 0 || r.End() > stream.MaxAddress {
				t.Errorf("bad region %+v", r)
			}
			end = r.End()
		}
	})
}

func TestMemoryIsMadeEagerInPlace(t *testing.T) {
	golden, err := os.ReadFile(filepath.Join(goldenDir, "pagemap-1.img"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	name := filepath.Join(dir, "pagemap-1.img")
	if err := os.WriteFile(name, golden, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := SetEager(dir); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), "not there") {
		t.Errorf("of a lazy dump: %v", err)
	}
	// As CRIU writes it if it is not lazy: all of it is marked, and there.
	rest, err := cutMagic(golden, magicPagemap)
	if err == nil {
		_, rest, err = cutRecord(rest)
	}
	for err == nil && len(rest) > 0 {
		var record []byte
		if record, rest, err = cutRecord(rest); err == nil {
			setFlags(record, flagPresent|flagLazy)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, golden, 0o600); err != nil {
		t.Fatal(err)
	}
	before, err := Pagemaps(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := SetEager(dir); err != nil {
		t.Fatal(err)
	}
	after, err := Pagemaps(dir)
	if err != nil || len(after[1]) != len(before[1]) || len(after[1]) == 0 {
		t.Fatalf("%d regions of %d: %v", len(after[1]), len(before[1]), err)
	}
	for i, r := range after[1] {
		want := before[1][i]
		if want.Lazy = false; r != want {
			t.Errorf("region %+v, want %+v", r, want)
		}
	}
}

func TestOwnersOfImagesCountTheirPagesInOrder(t *testing.T) {
	owners, err := Owners(goldenDir)
	if err != nil {
		t.Fatal(err)
	}
	all, err := Pagemaps(goldenDir)
	if err != nil {
		t.Fatal(err)
	}
	owner := owners["pages-1.img"]
	if len(owners) != 1 {
		t.Fatalf("owners %+v", owners)
	}
	for _, r := range all[1] {
		for i := int64(0); r.Present && i < r.Pages; i++ {
			if at := owner.next(); at != (stream.Place{VPID: 1, Addr: r.Addr + uint64(i)*stream.PageSize}) {
				t.Fatalf("page %d of %+v is at %+v", i, r, at)
			}
		}
	}
	if at := owner.next(); at != (stream.Place{}) {
		t.Errorf("behind the end is %+v", at)
	}
}
