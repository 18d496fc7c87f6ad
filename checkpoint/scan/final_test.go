package scan

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/restore/pagestore"
	"github.com/migrate-hpc/migrate/stream"
)

// attested is a lane of digests to what compares them.
type attested struct {
	digests *pagestore.Digests
	store   *pagestore.Store
	seed    uint64
}

func (a attested) WriteFrame(frame []byte) error {
	return stream.EachDigests(frame, func(d stream.Digests) error { return a.digests.Check(a.store, a.seed, d) })
}

// verify has the store compared with what the processes hold.
func (s *scene) verify(t *testing.T, tasks []Task, regions map[stream.VPID][]image.Region) (*pagestore.Digests, error) {
	t.Helper()
	digests, seed := &pagestore.Digests{}, rand.Uint64()
	var sinks []Sink
	for range s.lanes {
		sinks = append(sinks, attested{digests, s.store, seed})
	}
	_, err := s.Digests(t.Context(), seed, tasks, regions, sinks)
	return digests, err
}

func TestVerifyingNamesThePageThatDiffers(t *testing.T) {
	p, s := launch(t, "hidden"), newScene(t, 2)
	s.warm(t, p.members(t))
	tasks := p.stop(t)
	s.finish(t, tasks)
	regions := lazyRegions(t, tasks)
	digests, err := s.verify(t, tasks, regions)
	if err != nil {
		t.Fatal(err)
	}
	list := regions[tasks[0].VPID]
	if want := pagesOf(list); digests.Pages() != want {
		t.Errorf("%d pages were compared, there are %d", digests.Pages(), want)
	}
	bad := list[len(list)/2].Addr
	var page [stream.PageSize]byte
	if err := s.store.Read(stream.Place{VPID: tasks[0].VPID, Addr: bad}, page[:]); err != nil {
		t.Fatal(err)
	}
	page[4000] ^= 1
	if err := s.store.Put(tasks[0].VPID, bad, page[:]); err != nil {
		t.Fatal(err)
	}
	var wrong *pagestore.WrongPageError
	if _, err := s.verify(t, tasks, regions); !errors.As(err, &wrong) || wrong.Addr != bad || wrong.VPID != tasks[0].VPID {
		t.Errorf("the page at %#x differs, got %v", bad, err)
	}
}

func pagesOf(list []image.Region) (n int64) {
	for _, r := range list {
		n += r.Pages
	}
	return n
}

// The pages held back are exactly those that the target has forgotten. They are compared with the
// digests that came before.
func TestHeldBackPagesAreTheResidue(t *testing.T) {
	for name, track := range trackers(t) {
		t.Run(name, func(t *testing.T) {
			p, s := launch(t, "discard"), trackedScene(t, 2, track())
			s.warm(t, p.members(t))
			s.warm(t, p.members(t))
			tasks := p.stop(t)
			s.PostCopy = true
			if _, err := s.Scan(t.Context(), tasks, s.sinks); err != nil {
				t.Fatal(err)
			}
			regions := lazyRegions(t, tasks)
			s.Recheck([]stream.Place{{VPID: tasks[0].VPID, Addr: regions[tasks[0].VPID][0].Addr}})
			if _, err := s.Rest(t.Context(), tasks, regions, s.sinks); err != nil {
				t.Fatal(err)
			}
			left := s.Residue(regions)
			digests, err := s.verify(t, tasks, regions)
			if err != nil {
				t.Fatalf("a page that the target kept is not what the process holds: %v", err)
			}
			s.pull(t, tasks, left, digests)
			s.compare(t, tasks, regions)
		})
	}
}

// pull brings the pages that were held back.
func (s *scene) pull(t *testing.T, tasks []Task, left map[stream.VPID][]image.Region, digests *pagestore.Digests) {
	t.Helper()
	if pagesOf(left[tasks[0].VPID]) < 2 {
		t.Fatalf("nothing was held back: %v", left)
	}
	var r reader
	defer r.close()
	page, lost := make([]byte, stream.PageSize), make([]bool, 1)
	for _, task := range tasks {
		for _, region := range left[task.VPID] {
			for addr := region.Addr; addr < region.End(); addr += stream.PageSize {
				at := stream.Place{VPID: task.VPID, Addr: addr}
				if err := s.store.Read(at, page); !errors.Is(err, pagestore.ErrMissing) {
					t.Fatalf("page %#x is residue, and the target has it: %v", addr, err)
				}
				if err := r.read(task, []pageRange{{addr, 1}}, page, lost); err != nil {
					t.Fatal(err)
				}
				if err := digests.Arrived(task.VPID, addr, page); err != nil {
					t.Fatal(err)
				}
				if err := s.store.Put(task.VPID, addr, page); err != nil {
					t.Fatal(err)
				}
				page[7]++
				if err := digests.Arrived(task.VPID, addr, page); err == nil {
					t.Fatalf("a wrong page landed at %#x", addr)
				}
			}
		}
	}
}

// CRIU borrows code while the scan goes on, and gives it back.
func TestCodeThatCRIUBorrowsIsLookedAtAgain(t *testing.T) {
	p, s := launch(t, "code first"), newScene(t, 2)
	tasks := p.stop(t)
	addr, ok := parasitePage(p.pid())
	if !ok || addr != lowest {
		t.Fatalf("the first code is at %#x", addr)
	}
	mem, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", p.pid()), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	for _, poke := range []string{"borrowed", "original"} {
		if _, err := mem.WriteAt([]byte(poke), int64(addr)); err != nil {
			t.Fatal(err)
		}
		if poke == "borrowed" {
			if _, err := s.Scan(t.Context(), tasks, s.sinks); err != nil {
				t.Fatal(err)
			}
		}
	}
	regions := lazyRegions(t, tasks)
	if _, err := s.Rest(t.Context(), tasks, regions, s.sinks); err != nil {
		t.Fatal(err)
	}
	s.compare(t, tasks, regions)
}

// cutAfter fails once it has taken some frames.
type cutAfter struct {
	Sink
	left *atomic.Int64
}

var errCut = errors.New("cut")

func (c cutAfter) WriteFrame(frame []byte) error {
	if c.left.Add(-1) < 0 {
		return errCut
	}
	return c.Sink.WriteFrame(frame)
}

// A round that ends early has asked the tracker what changed and not acted upon it.
func TestAfterARoundThatFailedNothingIsTakenForUnchanged(t *testing.T) {
	for name, track := range trackers(t) {
		t.Run(name, func(t *testing.T) {
			p, s := launch(t, "writers"), trackedScene(t, 2, track())
			s.warm(t, p.members(t))
			var left atomic.Int64
			left.Store(5)
			cut := []Sink{cutAfter{s.sinks[0], &left}, cutAfter{s.sinks[1], &left}}
			if _, err := s.PreCopy(t.Context(), p.members(t), cut); !errors.Is(err, errCut) {
				t.Fatalf("got %v", err)
			}
			tasks := p.stop(t)
			// Frames were lost, so the ledger is wrong. Moves end with such an error; here
			// the store gets what it lacks.
			for _, l := range s.lanes {
				for _, n := range l.ledger.slabs {
					l.ledger.slab(n).sums = [chunkPages]sum{}
				}
			}
			s.finish(t, tasks)
		})
	}
}

func TestACancelledRoundEnds(t *testing.T) {
	p, s := launch(t, "plain"), newScene(t, 2)
	ctx, cancel := context.WithCancelCause(t.Context())
	var left atomic.Int64
	stop := stopAt{s.sinks[0], &left, func() { cancel(errCut) }}
	if _, err := s.PreCopy(ctx, p.members(t), []Sink{stop, stop}); !errors.Is(err, errCut) {
		t.Errorf("got %v", err)
	}
}

// stopAt calls stop with the third frame.
type stopAt struct {
	Sink
	seen *atomic.Int64
	stop func()
}

func (s stopAt) WriteFrame(frame []byte) error {
	if s.seen.Add(1) == 3 {
		s.stop()
	}
	return s.Sink.WriteFrame(frame)
}

func TestRestRefusesWhatItCannotRead(t *testing.T) {
	p, s := launch(t, "hidden"), newScene(t, 2)
	tasks := p.stop(t)
	const nowhere = 0x10000
	for name, c := range map[string]struct {
		region image.Region
		vpid   stream.VPID
	}{
		"hole":            {image.Region{Addr: nowhere, Pages: 3, Lazy: true}, tasks[0].VPID},
		"unknown process": {image.Region{Addr: nowhere, Pages: 1, Lazy: true}, 1 << 30},
		"odd address":     {image.Region{Addr: nowhere + 1, Pages: 1, Lazy: true}, tasks[0].VPID},
		"no pages":        {image.Region{Addr: nowhere, Lazy: true}, tasks[0].VPID},
	} {
		_, err := s.Rest(t.Context(), tasks, map[stream.VPID][]image.Region{c.vpid: {c.region}}, s.sinks)
		var unread *ReadError
		if err == nil || errors.As(err, &unread) != (name == "hole") {
			t.Errorf("%s: got %v", name, err)
		}
		if unread != nil && (unread.Addr != nowhere || unread.PID != p.pid() || !errors.Is(err, unix.EFAULT) && !errors.Is(err, unix.EIO)) {
			t.Errorf("got %v", err)
		}
	}
	if _, err := s.Rest(t.Context(), tasks, map[stream.VPID][]image.Region{1 << 30: {{Addr: nowhere, Pages: 1}}}, s.sinks); err != nil {
		t.Errorf("a region that is not lazy: %v", err)
	}
}

// What a tracker says is believed while the job runs, and no longer.
func TestTheLastLookBelievesNoTracker(t *testing.T) {
	p, s := launch(t, "writers"), trackedScene(t, 2, blind{})
	s.warm(t, p.members(t))
	if r := s.warm(t, p.members(t)); r.Compared > r.Present/2 {
		t.Fatalf("round %+v", r)
	}
	scan, _ := s.finish(t, p.stop(t))
	if scan.Compared < scan.Present/2 || scan.Dirty == 0 {
		t.Errorf("scan %+v", scan)
	}
}

// blind notices nothing.
type blind struct{ hashing }

func (blind) changed(Task, addrRange) ([]addrRange, bool) { return nil, true }

func TestAKernelWithoutTrackingIsNoticed(t *testing.T) {
	m, err := New(1)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	want := "hash"
	if softDirtyWorks() == nil {
		want = "soft-dirty"
	}
	if m.Tracking() != want {
		t.Errorf("tracking is %s, want %s", m.Tracking(), want)
	}
}
