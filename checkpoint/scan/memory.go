package scan

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"

	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/stream"
)

// Memory sends the memory of one job and knows what the target has of it. Its methods are called
// one after the other, always with as many sinks.
type Memory struct {
	// Count, if not nil, is told of memory as it is looked at, in bytes, from several
	// goroutines.
	Count func(bytes int64)
	// PostCopy makes Scan and Rest tell the target to forget the pages that have changed,
	// instead of sending them. Residue lists them.
	PostCopy bool
	// FullSpeed has PreCopy use processors as jobs do, instead of giving way to them.
	FullSpeed bool

	lanes      []*lane
	workers    []*worker // one for each lane, then a second one for each, and so on
	processors int
	tracker    tracker
	broken     bool // a pass did not get to its end
}

// New returns a Memory that sends on the given number of lanes and of which nothing has
// been sent. Close must be called.
func New(lanes int) (*Memory, error) { return newMemory(lanes, newTracker()) }

func newMemory(lanes int, t tracker) (*Memory, error) {
	if lanes <= 0 {
		return nil, errors.New("memory without a lane to send it on")
	}
	seed := rand.Uint64()
	m := &Memory{tracker: t, processors: runtime.GOMAXPROCS(0)}
	for range lanes {
		l, err := newLane(seed, lanes)
		if err != nil {
			return nil, errors.Join(err, m.Close())
		}
		m.lanes = append(m.lanes, l)
	}
	return m, nil
}

// Close gives the memory of the Memory back.
func (m *Memory) Close() error {
	var errs []error
	for _, l := range m.lanes {
		errs = append(errs, l.ledger.close())
	}
	for _, w := range m.workers {
		errs = append(errs, w.close())
	}
	m.lanes, m.workers = nil, nil
	return errors.Join(errs...)
}

// Tracking is how rounds find changes: "soft-dirty" or "hash". A process
// that the kernel does not keep track of is compared all the same.
func (m *Memory) Tracking() string { return m.tracker.name() }

// PreCopy sends what the target lacks of the memory of running processes. They may do anything
// meanwhile: Scan and Rest have the last word.
func (m *Memory) PreCopy(ctx context.Context, tasks []Task, sinks []Sink) (Round, error) {
	for _, vpid := range m.tracker.begin(tasks) {
		m.clearRead(vpid)
	}
	return m.pass(ctx, modePreCopy, sinks, func(p *planner) error { return p.processes(tasks) })
}

func (m *Memory) clearRead(vpid stream.VPID) {
	for _, l := range m.lanes {
		l.ledger.clearRead(vpid)
	}
}

// Scan is PreCopy for frozen processes. It compares all of their memory, whatever was tracked.
// Rest need not send pages that Scan has seen. A page that cannot be read is left to Rest.
func (m *Memory) Scan(ctx context.Context, tasks []Task, sinks []Sink) (Round, error) {
	for _, l := range m.lanes {
		l.ledger.clearSeen()
	}
	mode := modeScan
	if m.PostCopy {
		mode = modePostCopy
	}
	return m.pass(ctx, mode, sinks, func(p *planner) error { return p.processes(tasks) })
}

// Rest sends every page of the lazy regions that Scan has not seen and that the target lacks. The
// processes are frozen. A page that cannot be read is a [*ReadError].
func (m *Memory) Rest(ctx context.Context, tasks []Task, regions map[stream.VPID][]image.Region, sinks []Sink) (Round, error) {
	for _, t := range tasks {
		if addr, ok := parasitePage(t.PID); ok {
			m.Recheck([]stream.Place{{VPID: t.VPID, Addr: addr}})
		}
	}
	mode := modeRest
	if m.PostCopy {
		mode = modeDrop
	}
	return m.pass(ctx, mode, sinks, func(p *planner) error { return p.regions(tasks, regions) })
}

// Residue lists the pages of the lazy regions that the target lacks after a Rest with
// PostCopy.
func (m *Memory) Residue(regions map[stream.VPID][]image.Region) map[stream.VPID][]image.Region {
	left := map[stream.VPID][]image.Region{}
	for vpid, list := range regions {
		for _, r := range list {
			if !r.Lazy {
				continue
			}
			for addr := r.Addr; addr < r.End(); addr += stream.PageSize {
				if !m.laneOf(addr).ledger.seen(stream.Place{VPID: vpid, Addr: addr}) {
					left[vpid] = appendPage(left[vpid], addr)
				}
			}
		}
	}
	return left
}

// appendPage adds a page behind those that there are.
func appendPage(list []image.Region, addr uint64) []image.Region {
	if n := len(list); n > 0 && list[n-1].End() == addr {
		list[n-1].Pages++
		return list
	}
	return append(list, image.Region{Addr: addr, Pages: 1, Lazy: true})
}

func (m *Memory) laneOf(addr uint64) *lane { return m.lanes[laneOf(addr, len(m.lanes))] }

// TargetHas tells whether the target has this page at this place. No pass may be under way.
func (m *Memory) TargetHas(at stream.Place, page []byte) bool {
	return m.laneOf(at.Addr).ledger.targetHas(at, page)
}

// Recheck has Rest read pages although Scan has seen them.
func (m *Memory) Recheck(pages []stream.Place) {
	for _, p := range pages {
		m.laneOf(p.Addr).ledger.clearSeenPage(p)
	}
}

// Digests reads every page of the lazy regions once more, whatever is known of it. It writes each
// digest to the sink of the page. The processes are frozen.
func (m *Memory) Digests(ctx context.Context, seed uint64, tasks []Task, regions map[stream.VPID][]image.Region, sinks []Sink) (Round, error) {
	for _, l := range m.lanes {
		l.seed = seed
	}
	return m.pass(ctx, modeVerify, sinks, func(p *planner) error { return p.regions(tasks, regions) })
}
