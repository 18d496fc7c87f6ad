package uffd

import (
	"encoding/binary"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/migrate-hpc/migrate/restore/pageset"
	"github.com/migrate-hpc/migrate/restore/pagestore"
	"github.com/migrate-hpc/migrate/stream"
	"github.com/migrate-hpc/migrate/testenv"
)

// fill returns pages of which each word tells its place.
func fill(pages int, seed uint64) []byte {
	b := make([]byte, 0, pages*stream.PageSize)
	for i := range pages * stream.PageSize / 8 {
		page, o := uint64(i*8/stream.PageSize), uint64(i*8%stream.PageSize)
		b = binary.LittleEndian.AppendUint64(b, seed+page<<16+o|1)
	}
	return b
}

// storeDirs are the directories of the stores that tests have made.
var storeDirs = map[*pagestore.Store]string{}

// mustCreate makes a store in memory if it can.
func mustCreate(t testing.TB) *pagestore.Store {
	t.Helper()
	dir := testenv.MemoryDir(t)
	s, err := pagestore.Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	storeDirs[s] = dir
	t.Cleanup(func() { s.Close() })
	return s
}

func mustPut(t testing.TB, s *pagestore.Store, vpid stream.VPID, addr uint64, data []byte) {
	t.Helper()
	if err := s.Put(vpid, addr, data); err != nil {
		t.Fatal(err)
	}
}

// onDisk is how many bytes the store's data file takes.
func onDisk(t testing.TB, s *pagestore.Store) int64 {
	t.Helper()
	info, err := os.Stat(filepath.Join(storeDirs[s], "pages.data"))
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Blocks * 512
}

// flat is a table page by page: address → offset.
type flat map[uint64]int64

func flatten(spans []pageset.Span) flat {
	out := flat{}
	for _, s := range spans {
		for a := s.Start; a < s.End; a += stream.PageSize {
			out[a] = s.Clip(a, a+stream.PageSize).Off
		}
	}
	return out
}

// wantOrder wants spans in order of their addresses, none empty or overlapping.
func wantOrder(t *testing.T, spans []pageset.Span) {
	t.Helper()
	last := uint64(0)
	for _, sp := range spans {
		if sp.Start < last || sp.End <= sp.Start {
			t.Fatalf("span [%#x, %#x) behind %#x", sp.Start, sp.End, last)
		}
		last = sp.End
	}
}

// someRanges are sorted, and some touch.
func someRanges(rnd *rand.Rand) (out []pageset.Range) {
	for at := rnd.Uint64N(9); at < tablePages; {
		end := at + 1 + rnd.Uint64N(9)
		out = append(out, pageset.Range{Start: at * stream.PageSize, End: end * stream.PageSize})
		at = end + rnd.Uint64N(9)
	}
	return out
}
