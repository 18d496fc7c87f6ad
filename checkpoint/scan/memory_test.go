package scan

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/procfs"
	"github.com/migrate-hpc/migrate/restore/pageset"
	"github.com/migrate-hpc/migrate/restore/pagestore"
	"github.com/migrate-hpc/migrate/stream"
)

// wire is one lane to a real page store. It may be read and written at any speed.
type wire struct {
	store *pagestore.Store
	hold  *sync.Mutex
}

func (w *wire) WriteFrame(frame []byte) error {
	w.hold.Lock()
	defer w.hold.Unlock()
	if len(frame) > stream.MaxBatch {
		return fmt.Errorf("a frame of %d bytes", len(frame))
	}
	var runs []stream.Run
	if err := stream.EachRun(frame, func(r stream.Run) error { runs = append(runs, r); return nil }); err != nil {
		return err
	}
	return w.store.PutBatch(runs)
}

// scene is a memory on its way to a store.
type scene struct {
	*Memory
	store *pagestore.Store
	sinks []Sink
}

func newScene(t testing.TB, lanes int) *scene {
	t.Helper()
	return trackedScene(t, lanes, hashing{})
}

func trackedScene(t testing.TB, lanes int, track tracker) *scene {
	t.Helper()
	store, err := pagestore.Create(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	m, err := newMemory(lanes, track)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(m.Close(), store.Close()); err != nil {
			t.Error(err)
		}
	})
	s := &scene{Memory: m, store: store}
	for range lanes {
		s.sinks = append(s.sinks, &wire{store, &sync.Mutex{}})
	}
	return s
}

func (s *scene) warm(t testing.TB, tasks []Task) Round {
	t.Helper()
	r, err := s.PreCopy(t.Context(), tasks, s.sinks)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// finish does what follows the freeze, and compares.
func (s *scene) finish(t testing.TB, tasks []Task) (scan, rest Round) {
	t.Helper()
	scan, err := s.Scan(t.Context(), tasks, s.sinks)
	if err != nil {
		t.Fatal(err)
	}
	regions := lazyRegions(t, tasks)
	if rest, err = s.Rest(t.Context(), tasks, regions, s.sinks); err != nil {
		t.Fatal(err)
	}
	s.compare(t, tasks, regions)
	return scan, rest
}

// compare compares every page with what the store has.
func (s *scene) compare(t testing.TB, tasks []Task, regions map[stream.VPID][]image.Region) {
	t.Helper()
	if err := pagestore.FirstOf(s.store.Gaps(pageset.LazyOf(regions))); err != nil {
		t.Fatal(err)
	}
	pages := 0
	for _, task := range tasks {
		mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", task.PID))
		if err != nil {
			t.Fatal(err)
		}
		defer mem.Close()
		for _, r := range regions[task.VPID] {
			for addr := r.Addr; addr < r.End(); addr += stream.PageSize {
				var got, want [stream.PageSize]byte
				if err := s.store.Read(stream.Place{VPID: task.VPID, Addr: addr}, got[:]); err != nil {
					t.Fatal(err)
				}
				if _, err := mem.ReadAt(want[:], int64(addr)); err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(got[:], want[:]) {
					t.Fatalf("page %#x of %d is not what the process holds", addr, task.VPID)
				}
				pages++
			}
		}
	}
	if pages == 0 {
		t.Fatal("nothing was compared")
	}
}

// lazyRegions plays CRIU: the pages that exist where a lazy restore can bring them.
func lazyRegions(t testing.TB, tasks []Task) map[stream.VPID][]image.Region {
	t.Helper()
	regions := map[stream.VPID][]image.Region{}
	for _, task := range tasks {
		maps, err := lazyMappings(task.PID)
		if err != nil {
			t.Fatal(err)
		}
		table, err := procfs.OpenPagemap(task.PID)
		if err != nil {
			t.Fatal(err)
		}
		defer table.Close()
		for _, m := range maps {
			if err := table.Each(m.start, m.end, func(start, end uint64) error {
				r := addrRange{start, end}

				regions[task.VPID] = append(regions[task.VPID],
					image.Region{Addr: r.start, Pages: int64((r.end - r.start) / stream.PageSize), Lazy: true})
				return nil
			}); err != nil {
				t.Fatal(err)
			}
		}
	}
	return regions
}

// trackers are the ways to find changes that this kernel has.
func trackers(t *testing.T) map[string]func() tracker {
	all := map[string]func() tracker{"hash": func() tracker { return hashing{} }}
	if err := softDirtyWorks(); err == nil {
		all["soft-dirty"] = func() tracker { return &softDirty{} }
	} else {
		t.Logf("without soft-dirty: %v", err)
	}
	return all
}

// Each role changes its memory in its own way while rounds go on.
func TestAfterTheFreezeTheStoreHoldsWhatTheJobHolds(t *testing.T) {
	for name, track := range trackers(t) {
		for _, role := range []string{"plain", "writers", "huge pages", "threads", "hidden", "remap", "swap", "discard", "forks"} {
			t.Run(name+"/"+role, func(t *testing.T) {
				p, s := launch(t, role), trackedScene(t, 3, track())
				for range 4 {
					t.Logf("round %+v", s.warm(t, p.members(t)))
				}
				scan, rest := s.finish(t, p.stop(t))
				t.Logf("scan %+v, rest %+v", scan, rest)
			})
		}
	}
}

// The workers of a lane share its ledger and its frames.
func TestManyWorkersOnALaneSendEveryPage(t *testing.T) {
	p, s := launch(t, "writers"), newScene(t, 2)
	s.processors = 7
	s.warm(t, p.members(t))
	tasks := p.stop(t)
	scan, _ := s.finish(t, tasks)
	if len(s.workers) != 8 || scan.Dirty == 0 {
		t.Errorf("%d workers, scan %+v", len(s.workers), scan)
	}
	if again, _ := s.finish(t, tasks); again.Compared != scan.Compared || again.Dirty != 0 {
		t.Errorf("scan %+v, and once more %+v", scan, again)
	}
}

func TestWithoutAWarmUpTheScanSendsEverything(t *testing.T) {
	p, s := launch(t, "plain"), newScene(t, 2)
	scan, rest := s.finish(t, p.stop(t))
	if scan.Dirty < 64*mib || scan.Zero < 64*mib/zeroEvery || rest.Compared > mib {
		t.Errorf("scan %+v, rest %+v", scan, rest)
	}
}

func TestWithoutAScanTheRestIsEverything(t *testing.T) {
	p, s := launch(t, "hidden"), newScene(t, 1)
	tasks := p.stop(t)
	regions := lazyRegions(t, tasks)
	rest, err := s.Rest(t.Context(), tasks, regions, s.sinks)
	if err != nil {
		t.Fatal(err)
	}
	s.compare(t, tasks, regions)
	if rest.Dirty < 16*mib {
		t.Errorf("sent %+v", rest)
	}
}

func TestARoundSendsOnlyWhatHasChanged(t *testing.T) {
	p, s := launch(t, "steps"), newScene(t, 2)
	s.warm(t, p.members(t))
	for range 3 {
		p.say(t)
		p.hear(t, "done")
		// The Go runtime of the child writes as well.
		if r := s.warm(t, p.members(t)); r.Dirty < 3*stream.PageSize || r.Dirty > 2*mib || r.Compared < 16*mib {
			t.Errorf("round %+v", r)
		}
	}
	s.finish(t, p.stop(t))
}

func TestEqualPagesCrossOnceAndKeepTheirOwnLives(t *testing.T) {
	p, s := launch(t, "equal"), newScene(t, 2)
	if r := s.warm(t, p.members(t)); r.Duplicate < 6*mib || r.Payload > r.Dirty-r.Zero-r.Duplicate+r.Dirty/64 {
		t.Errorf("first round %+v", r)
	}
	p.say(t)
	p.hear(t, "done")
	s.finish(t, p.stop(t))
}

func TestReservedMemoryIsNotTouched(t *testing.T) {
	p, s := launch(t, "reserved"), newScene(t, 2)
	before := resident(p.pid())
	r := s.warm(t, p.members(t))
	if r.Compared > 64*mib {
		t.Errorf("round %+v", r)
	}
	s.finish(t, p.stop(t))
	if after := resident(p.pid()); after > before+mib {
		t.Errorf("the process has grown from %d to %d bytes", before, after)
	}
}
