package scan

import (
	"context"
	"fmt"

	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/procfs"
	"github.com/migrate-hpc/migrate/stream"
)

// A piece of work for a lane ends when it has so many pages, or stretches.
const (
	workPages  = 4096
	workRanges = 512
	// workAhead is how many pieces may wait for a worker.
	workAhead = 4
)

// workRange is consecutive pages of a process, all in one chunk.
type workRange struct {
	task  Task
	addr  uint64
	pages int
	clean bool // unchanged since an earlier pass looked at them
}

// planner finds the pages that a pass is to read and hands them to their lanes.
type planner struct {
	ctx     context.Context
	mode    mode
	tracker tracker
	work    []chan []workRange
	queued  [][]workRange // not handed on yet, by lane
	pages   []int         // in waiting
	present int64
}

func newPlanner(ctx context.Context, mode mode, lanes int, t tracker) *planner {
	p := &planner{ctx: ctx, mode: mode, tracker: t, queued: make([][]workRange, lanes), pages: make([]int, lanes)}
	for range lanes {
		p.work = append(p.work, make(chan []workRange, workAhead))
	}
	return p
}

// processes plans the memory of the processes that exists and may be lazy. A process that cannot
// be read is left out: it is ending, or Rest meets the cause again.
func (p *planner) processes(tasks []Task) error {
	for _, t := range tasks {
		if err := p.process(t); err != nil {
			return err
		}
	}
	return nil
}

func (p *planner) process(t Task) error {
	maps, err := lazyMappings(t.PID)
	if err != nil {
		return nil
	}
	table, err := procfs.OpenPagemap(t.PID)
	if err != nil {
		return nil
	}
	defer table.Close()
	for _, m := range maps {
		var failed error
		var changed []addrRange
		known := false
		if p.mode == modePreCopy { // what else it may be, the job stands still, and nothing is believed
			changed, known = p.tracker.changed(t, m)
		}
		err := table.Each(m.start, m.end, func(start, end uint64) error {
			found := addrRange{start, end}
			p.present += int64(found.end - found.start)
			if known {
				changed, failed = p.split(t, found, changed)
			} else {
				failed = p.add(t, found, false)
			}
			return failed
		})
		if failed != nil {
			return failed
		}
		if err != nil {
			return nil
		}
	}
	return nil
}

// split adds the parts of r that lie in changed and those that do not. It returns the part of
// changed behind r.
func (p *planner) split(t Task, r addrRange, changed []addrRange) ([]addrRange, error) {
	for r.start < r.end {
		for len(changed) > 0 && changed[0].end <= r.start {
			changed = changed[1:]
		}
		part, clean := r, true
		if len(changed) > 0 {
			if c := changed[0]; c.start <= r.start {
				part.end, clean = min(r.end, c.end), false
			} else {
				part.end = min(r.end, c.start)
			}
		}
		if err := p.add(t, part, clean); err != nil {
			return nil, err
		}
		r.start = part.end
	}
	return changed, nil
}

// regions plans the lazy regions that CRIU's pagemaps name.
func (p *planner) regions(tasks []Task, regions map[stream.VPID][]image.Region) error {
	byVPID := map[stream.VPID]Task{}
	for _, t := range tasks {
		byVPID[t.VPID] = t
	}
	for vpid, list := range regions {
		for _, r := range list {
			if !r.Lazy {
				continue
			}
			t, ok := byVPID[vpid]
			if !ok {
				return fmt.Errorf("process %d has lazy memory, but its pid is not known", vpid)
			}
			if r.Pages <= 0 || r.Addr%stream.PageSize != 0 {
				return fmt.Errorf("process %d: region of %d pages at %#x", vpid, r.Pages, r.Addr)
			}
			p.present += r.Pages * stream.PageSize
			if err := p.add(t, addrRange{r.Addr, r.End()}, false); err != nil {
				return err
			}
		}
	}
	return nil
}

// add gives the range to the lanes of its chunks.
func (p *planner) add(t Task, r addrRange, clean bool) error {
	for r.start < r.end {
		end := min(r.end, r.start&^(chunkSize-1)+chunkSize)
		lane := laneOf(r.start, len(p.work))
		pages := int((end - r.start) / stream.PageSize)
		p.queued[lane] = append(p.queued[lane], workRange{t, r.start, pages, clean})
		p.pages[lane] += pages
		if p.pages[lane] >= workPages || len(p.queued[lane]) >= workRanges {
			if err := p.submit(lane); err != nil {
				return err
			}
		}
		r.start = end
	}
	return nil
}

func (p *planner) submit(lane int) error {
	select {
	case p.work[lane] <- p.queued[lane]:
		p.queued[lane], p.pages[lane] = nil, 0
		return nil
	case <-p.ctx.Done():
		return context.Cause(p.ctx)
	}
}

// flush hands on the rest.
func (p *planner) flush() error {
	for lane := range p.work {
		if err := p.submit(lane); err != nil {
			return err
		}
	}
	return nil
}

func (p *planner) close() {
	for _, w := range p.work {
		close(w)
	}
}
