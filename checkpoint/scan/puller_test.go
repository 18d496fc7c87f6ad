package scan

import (
	"errors"
	"testing"

	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/stream"
)

func TestWhatIsPulledIsWhatTheJobHolds(t *testing.T) {
	p, s := launch(t, "hidden"), newScene(t, 1)
	tasks := p.stop(t)
	regions := lazyRegions(t, tasks)
	first := NewPuller(tasks, regions)
	pullers := []*Puller{first, first.Clone()}
	for vpid, list := range regions {
		for _, r := range list {
			for i := 0; r.Pages > 0; i++ {
				n := min(r.Pages, stream.MaxRunPages)
				frame, err := pullers[i%2].Read(stream.Place{VPID: vpid, Addr: r.Addr}, n)
				if err != nil {
					t.Fatal(err)
				}
				if err := s.sinks[0].WriteFrame(frame); err != nil {
					t.Fatal(err)
				}
				r.Addr, r.Pages = r.Addr+uint64(n)*stream.PageSize, r.Pages-n
			}
		}
	}
	for _, p := range pullers {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
	s.compare(t, tasks, regions)
}

func TestOnlyLazyMemoryIsPulled(t *testing.T) {
	page := uint64(stream.PageSize)
	p := NewPuller([]Task{{VPID: 7, PID: 1}}, map[stream.VPID][]image.Region{7: {
		{Addr: 10 * page, Pages: 10, Lazy: true}, {Addr: 20 * page, Pages: 300, Lazy: true}, {Addr: 320 * page, Pages: 10, Present: true},
		{Addr: 400 * page, Pages: 1, Lazy: true},
	}})
	for _, c := range []struct {
		vpid  stream.VPID
		page  uint64
		pages int64
		ok    bool
	}{
		{7, 10, 1, true}, {7, 15, 100, true}, {7, 319, 1, true}, {7, 400, 1, true}, {7, 10, stream.MaxRunPages, true},
		{7, 9, 1, false}, {7, 9, 2, false}, {7, 319, 2, false}, {7, 320, 1, false}, {7, 399, 2, false}, {7, 401, 1, false},
		{7, 10, stream.MaxRunPages + 1, false}, {7, 10, 0, false}, {7, 10, -1, false}, {7, 10, 1 << 52, false}, {8, 10, 1, false}, {7, 1 << 50, 1, false},
	} {
		at := stream.Place{VPID: c.vpid, Addr: c.page * page}
		if err := p.Check(at, c.pages); (err == nil) != c.ok || err != nil && !errors.Is(err, ErrNotLazy) {
			t.Errorf("%d pages at page %d of %d: %v", c.pages, c.page, c.vpid, err)
		}
		if _, err := p.Read(at, c.pages); !c.ok && !errors.Is(err, ErrNotLazy) {
			t.Errorf("read %d pages at page %d of %d: %v", c.pages, c.page, c.vpid, err)
		}
	}
}

func TestAProcessThatHasEndedIsToldFromOneThatCannotBeRead(t *testing.T) {
	page := uint64(stream.PageSize)
	lazy := map[stream.VPID][]image.Region{7: {{Addr: 10 * page, Pages: 1, Lazy: true}}}
	for name, tasks := range map[string][]Task{"unknown": nil, "gone": {{VPID: 7, PID: 1 << 22}}} {
		if _, err := NewPuller(tasks, lazy).Read(stream.Place{VPID: 7, Addr: 10 * page}, 1); !errors.Is(err, ErrEnded) {
			t.Errorf("%s: %v", name, err)
		}
	}
	p := launch(t, "plain")
	here := p.members(t)
	here[0].VPID = 7
	if _, err := NewPuller(here, lazy).Read(stream.Place{VPID: 7, Addr: 10 * page}, 1); err == nil || errors.Is(err, ErrEnded) {
		t.Errorf("a page that is not there: %v", err)
	}
}
