package uffd

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/restore/pagestore"
	"github.com/migrate-hpc/migrate/stream"
)

// shape is memory as a job may have it: runs of data, with known zeros or nothing between them.
type shape struct {
	data, zero int64 // pages of a run
	holes      bool  // the job never touched what lies between the runs of data
}

const shapeBase = uint64(0x7f00_0000_0000)

// store makes a store of so many pages, and returns its directory with what CRIU's
// pagemaps say.
func (h shape) store(t testing.TB, vpid stream.VPID, pages int64) (string, map[stream.VPID][]image.Region) {
	t.Helper()
	dir := t.TempDir()
	s, err := pagestore.Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	data := make([]byte, h.data*stream.PageSize)
	var regions []image.Region
	for at := int64(0); at < pages; at += h.data + h.zero {
		start := shapeBase + uint64(at)*stream.PageSize
		mid := start + uint64(h.data)*stream.PageSize
		err := s.Put(vpid, start, data)
		if !h.holes && err == nil {
			err = s.PutZero(vpid, mid, h.zero)
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.holes || at == 0 {
			regions = append(regions, image.Region{Addr: start, Pages: h.data, Lazy: true})
		}
		if !h.holes {
			regions[0].Pages = at + h.data + h.zero
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return dir, map[stream.VPID][]image.Region{vpid: regions}
}

// cpu is the processor time that this process has used, in milliseconds.
func cpu(b *testing.B) float64 {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e6
}

// BenchmarkPark measures, in processor time, how long the memory of a job of 256 MiB takes to be
// ready. The time begins with the request to park the job.
func BenchmarkPark(b *testing.B) {
	const pages, gib = int64(64 << 10), 0.25
	for name, h := range map[string]shape{
		"zeros": {data: 2, zero: 1}, "holes": {data: 2, zero: 1, holes: true}, "long": {data: 2048, zero: 512},
	} {
		b.Run(name, func(b *testing.B) {
			dir, regions := h.store(b, 5, pages)
			for range b.N {
				measurePark(b, dir, regions, gib)
			}
		})
	}
}

func measurePark(b *testing.B, dir string, regions map[stream.VPID][]image.Region, gib float64) {
	began := cpu(b)
	lap := func(step string) {
		b.ReportMetric((cpu(b)-began)/gib, step+"-cpu-ms/GiB")
		began = cpu(b)
	}
	for _, early := range []bool{true, false} { // CRIU hands the task over after EndPush, or before
		began = cpu(b)
		store, err := pagestore.Open(dir)
		if err != nil {
			b.Fatal(err)
		}
		lap("open")
		s := prepared(b, store, regions)
		lap("prepare")
		settle, handOver := "settle", "table"
		if !early {
			settle, handOver = "settle-late", "table-early"
			handed(s, 5)
			lap(handOver)
		}
		if err := s.EndPush(false); err != nil {
			b.Fatal(err)
		}
		lap(settle)
		if early {
			handed(s, 5)
			lap(handOver)
		}
		finish(b, s)
	}
}

// prepared is a server that has a store and waits for CRIU.
func prepared(b testing.TB, store *pagestore.Store, regions map[stream.VPID][]image.Region) *Server {
	s, err := Listen(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	s.AllowIncomplete()
	if err := s.prepare(store, regions); err != nil {
		b.Fatal(err)
	}
	return s
}

// handed has a task in the server's charge, as addTask does with a real one.
func handed(s *Server, vpid stream.VPID) *space {
	s.supply.mu.Lock()
	defer s.supply.mu.Unlock()
	s.supply.tasksSeen[vpid] = true
	sp := &space{server: s, id: 1, vpid: vpid, fd: -1, table: s.supply.tableFor(vpid)}
	s.spaces = append(s.spaces, sp)
	return sp
}

func finish(b testing.TB, s *Server) {
	s.spaces = nil
	if err := s.unmap(); err != nil {
		b.Fatal(err)
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	if err := s.store.Close(); err != nil {
		b.Fatal(err)
	}
}
