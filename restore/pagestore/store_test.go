package pagestore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/restore/pageset"
	"github.com/migrate-hpc/migrate/stream"
	"github.com/migrate-hpc/migrate/testenv"
)

// fill makes pages whose contents say which they are.
func fill(pages int, seed uint64) []byte {
	b := make([]byte, pages*stream.PageSize)
	for i := range pages {
		for o := 0; o < stream.PageSize; o += 8 {
			binary.LittleEndian.PutUint64(b[i*stream.PageSize+o:], seed+uint64(i)<<16+uint64(o)|1)
		}
	}
	return b
}

func mustCreate(t testing.TB) *Store {
	t.Helper()
	s, err := Create(testenv.MemoryDir(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func mustPut(t testing.TB, s *Store, vpid stream.VPID, addr uint64, data []byte) {
	t.Helper()
	if err := s.Put(vpid, addr, data); err != nil {
		t.Fatal(err)
	}
}

// load reads pages back; a page that the store does not know comes as nil.
func load(t testing.TB, s *Store, vpid stream.VPID, addr uint64, pages int) [][]byte {
	t.Helper()
	out := make([][]byte, pages)
	for i := range out {
		a := addr + uint64(i)*stream.PageSize
		for _, sp := range s.index.of(vpid).Within(a, a+stream.PageSize) {
			out[i] = make([]byte, stream.PageSize)
			if sp.Zero() {
				continue
			}
			if _, err := s.data.ReadAt(out[i], sp.Off); err != nil {
				t.Fatal(err)
			}
		}
	}
	return out
}

func onDisk(t testing.TB, s *Store) int64 {
	t.Helper()
	info, err := s.data.Stat()
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Blocks * 512
}

func reopen(t testing.TB, s *Store) *Store {
	t.Helper()
	o, err := Open(s.Dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { o.Close() })
	return o
}

func TestLaterPutWinsAlsoAfterReopening(t *testing.T) {
	s := mustCreate(t)
	rnd := rand.New(rand.NewPCG(3, 4))
	const pages = 200
	model := make([][]byte, pages)
	for round := range 400 {
		at, n := rnd.IntN(pages-16), 1+rnd.IntN(16)
		addr := uint64(0x10000 + at*stream.PageSize)
		if rnd.IntN(4) == 0 {
			if err := s.PutZero(7, addr, int64(n)); err != nil {
				t.Fatal(err)
			}
			for i := range n {
				model[at+i] = make([]byte, stream.PageSize)
			}
			continue
		}
		data := fill(n, uint64(round)<<32)
		mustPut(t, s, 7, addr, data)
		for i := range n {
			model[at+i] = data[i*stream.PageSize : (i+1)*stream.PageSize]
		}
	}
	for _, s := range []*Store{s, reopen(t, s)} {
		for i, got := range load(t, s, 7, 0x10000, pages) {
			if !bytes.Equal(got, model[i]) {
				t.Fatalf("page %d differs", i)
			}
		}
	}
}

func TestConcurrentPutsKeepEveryPage(t *testing.T) {
	s := mustCreate(t)
	var wg sync.WaitGroup
	errs := make(chan error, 4)
	for w := range 4 {
		wg.Go(func() {
			for i := range 200 {
				addr := uint64((i*4+w)*5) * stream.PageSize
				if err := s.Put(stream.VPID(1+i%3), addr, fill(5, addr)); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		t.Fatal(err)
	}
	for w := range 4 {
		for i := range 200 {
			addr := uint64((i*4+w)*5) * stream.PageSize
			got := bytes.Join(load(t, s, stream.VPID(1+i%3), addr, 5), nil)
			if !bytes.Equal(got, fill(5, addr)) {
				t.Fatalf("run at %#x differs", addr)
			}
		}
	}
}

func TestPutTwiceTakesNoMoreMemory(t *testing.T) {
	s := mustCreate(t)
	for round := range 5 {
		mustPut(t, s, 1, 0x100000, fill(1024, uint64(round)))
	}
	if n := onDisk(t, s); n > 1024*stream.PageSize {
		t.Fatalf("%d bytes on disk for %d pages", n, 1024)
	}
	if n := s.Bytes(); n != 1024*stream.PageSize {
		t.Fatalf("Bytes() = %d", n)
	}
}

func TestMemoryOfReleasedPagesIsGivenBack(t *testing.T) {
	s := mustCreate(t)
	mustPut(t, s, 1, 0, fill(1024, 0))
	if err := s.Release(s.Take(1, 0, 512*stream.PageSize)...); err != nil {
		t.Fatal(err)
	}
	if n := onDisk(t, s); n != 512*stream.PageSize {
		t.Fatalf("%d bytes on disk, want %d", n, 512*stream.PageSize)
	}
	rest := s.Take(1, 512*stream.PageSize, 1024*stream.PageSize)
	s.Retain(rest)
	if err := s.Release(rest...); err != nil {
		t.Fatal(err)
	}
	if n := onDisk(t, s); n != 512*stream.PageSize {
		t.Fatalf("%d bytes on disk: a page with a second user was given back", n)
	}
	if err := s.Release(rest...); err != nil {
		t.Fatal(err)
	}
	if n := onDisk(t, s); n != 0 {
		t.Fatalf("%d bytes on disk after all was released", n)
	}
}

func TestTheFirstGapIsNamed(t *testing.T) {
	s := mustCreate(t)
	mustPut(t, s, 5, 10*stream.PageSize, fill(4, 0))
	if err := s.PutZero(5, 14*stream.PageSize, 2); err != nil {
		t.Fatal(err)
	}
	lazy := func(from, pages int64) image.Region {
		return image.Region{Addr: uint64(from) * stream.PageSize, Pages: pages, Lazy: true}
	}
	eager := image.Region{Addr: 0, Pages: 9, Present: true}
	for _, c := range []struct {
		name    string
		regions []image.Region
		want    string
	}{
		{"all there", []image.Region{eager, lazy(10, 6)}, ""},
		{"before", []image.Region{lazy(8, 4)}, "task 5, 2 pages at 0x8000"},
		{"behind", []image.Region{lazy(12, 1), lazy(13, 9)}, "task 5, 6 pages at 0x10000"},
		{"elsewhere", []image.Region{lazy(100, 3)}, "task 5, 3 pages at 0x64000"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := FirstOf(s.Gaps(pageset.LazyOf(map[stream.VPID][]image.Region{5: c.regions})))
			if errors.Is(err, ErrMissing) != (c.want != "") || err != nil && !strings.HasPrefix(err.Error(), c.want+":") {
				t.Fatalf("the first gap is %v, want %q", err, c.want)
			}
		})
	}
	if gaps := s.Gaps(pageset.LazyOf(map[stream.VPID][]image.Region{6: {lazy(1, 1)}})); len(gaps[6]) != 1 {
		t.Fatal("a task that the store does not know misses nothing")
	}
}

func TestTrimForgetsWhatPagemapsDoNotName(t *testing.T) {
	s := mustCreate(t)
	mustPut(t, s, 5, 0, fill(1024, 9))
	mustPut(t, s, 6, 0, fill(1024, 9))
	regions := map[stream.VPID][]image.Region{5: {
		{Addr: 2 * stream.PageSize, Pages: 2, Lazy: true}, {Addr: 4 * stream.PageSize, Pages: 4, Present: true}}}
	if err := s.Trim(pageset.LazyOf(regions)); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*Store{s, reopen(t, s)} {
		if n := s.Bytes(); n != 2*stream.PageSize {
			t.Fatalf("%d bytes left", n)
		}
		got := load(t, s, 5, 0, 8)
		want := fill(1024, 9)
		for i, p := range got {
			if kept := i == 2 || i == 3; kept != (p != nil) || kept && !bytes.Equal(p, want[i*stream.PageSize:(i+1)*stream.PageSize]) {
				t.Fatalf("page %d wrong after trim", i)
			}
		}
	}
	if n := onDisk(t, s); n > BlockSize {
		t.Fatalf("%d bytes on disk", n)
	}
}

func TestPutRefusesRangesNoProcessHas(t *testing.T) {
	s := mustCreate(t)
	page := make([]byte, stream.PageSize)
	for _, err := range []error{
		s.Put(1, 1, page), s.Put(0, 0, page), s.Put(-1, 0, page), s.Put(1, 0, nil), s.Put(1, 0, page[:100]),
		s.Put(1, 0, make([]byte, stream.PageSize+1)), s.Put(1, stream.MaxAddress, page), s.Put(1, ^uint64(0)&^(stream.PageSize-1), page),
		s.PutZero(1, 0, 0), s.PutZero(1, 0, -1), s.PutZero(1, stream.PageSize, 1<<62), s.PutZero(1, stream.MaxAddress-stream.PageSize, 2),
	} {
		if !errors.Is(err, ErrRange) {
			t.Errorf("got %v, want ErrRange", err)
		}
	}
}

func TestOpenRefusesADamagedLog(t *testing.T) {
	for name, damage := range map[string]func([]byte) []byte{
		"torn record": func(b []byte) []byte { return b[:len(b)-1] },
		"flipped bit": func(b []byte) []byte { b[len(b)-20] ^= 4; return b },
		"no header":   func(b []byte) []byte { return b[:8] },
		"other magic": func(b []byte) []byte { b[0]++; return b },
		"beyond data": func(b []byte) []byte {
			return appendRecord(b, recordData, 1, pageset.Span{Start: 0, End: stream.PageSize, Off: 1 << 40})
		},
		"unknown kind": func(b []byte) []byte { return appendRecord(b, 9, 1, pageset.Span{Start: 0, End: stream.PageSize}) },
	} {
		t.Run(name, func(t *testing.T) {
			s := mustCreate(t)
			mustPut(t, s, 1, 0, fill(3, 0))
			path := filepath.Join(s.Dir, logName)
			log, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, damage(log), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := Open(s.Dir); !errors.Is(err, ErrDamaged) {
				t.Fatalf("Open: %v, want ErrDamaged", err)
			}
		})
	}
}

func TestCreateRefusesAnExistingStoreAndRemoveIsIdempotent(t *testing.T) {
	s := mustCreate(t)
	if _, err := Create(s.Dir); !errors.Is(err, os.ErrExist) {
		t.Fatalf("Create: %v", err)
	}
	for range 2 {
		if err := s.Remove(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Open(s.Dir); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("Open: %v", err)
	}
}

func FuzzDecodeRecord(f *testing.F) {
	f.Add(appendRecord(nil, recordData, 1, pageset.Span{Start: 4096, End: 8192, Off: 0})[:recordSize-4])
	f.Add(appendRecord(nil, recordZero, 9, pageset.Span{Start: 0, End: 8192, Off: pageset.ZeroOff})[:recordSize-4])
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) != recordSize-4 {
			return
		}
		b = binary.LittleEndian.AppendUint32(b, checksum(b))
		kind, vpid, sp, err := decodeRecord(b, 1<<20)
		if err != nil {
			return
		}
		if sp.End <= sp.Start || sp.End > stream.MaxAddress || kind == recordData && sp.Off+sp.Bytes() > 1<<20 {
			t.Fatal(fmt.Sprint(kind, vpid, sp))
		}
	})
}

func BenchmarkPut(b *testing.B) {
	for _, pages := range []int{1, 255} {
		b.Run(fmt.Sprint(pages), func(b *testing.B) {
			s := mustCreate(b)
			data := fill(pages, 0)
			b.SetBytes(int64(len(data)))
			for i := 0; b.Loop(); i++ {
				mustPut(b, s, 1, uint64(i%2048*(pages+1)*stream.PageSize), data)
			}
		})
	}
}
