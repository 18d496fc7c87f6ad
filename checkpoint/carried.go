package checkpoint

import (
	"context"
	"errors"
	"io"

	"github.com/migrate-hpc/migrate/carry"
	"github.com/migrate-hpc/migrate/carry/table"
	"github.com/migrate-hpc/migrate/checkpoint/scan"
	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/pidmap"
	"github.com/migrate-hpc/migrate/stream"
)

// carried are the halves of the resources that CRIU does not carry.
type carried struct {
	sources []carry.Source
	last    *background // their last round, while CRIU dumps
	lane    io.Writer   // of that
}

func (s *Source) resources() *carried {
	if s.carried == nil {
		s.carried = &carried{sources: table.Carried.Sources(s.job())}
	}
	return s.carried
}

// job is what the resources are told of it.
func (s *Source) job() carry.Job {
	return carry.Job{Init: s.Init, UserNS: s.UserNS, Dir: s.Dir, Images: s.Images(), Frozen: func() []pidmap.Entry { return s.frozenAs }, Affinity: s.Affinity}
}

// asPass puts what a resource has sent beside what passes over the memory of processes have.
func asPass(r carry.Round) scan.Round {
	return scan.Round{Present: r.Looked, Compared: r.Looked, Dirty: r.Changed, Payload: r.Payload, Wire: r.Wire,
		Took: r.Took, Reading: r.Reading, Writing: r.Writing, Waiting: r.Waiting, Scanning: r.Reading}
}

// round adds up what one does for each resource.
func (c *carried) round(one func(carry.Source) (carry.Round, error)) (scan.Round, error) {
	var sum carry.Round
	for _, r := range c.sources {
		round, err := one(r)
		sum.Add(round)
		if err != nil {
			return asPass(sum), err
		}
	}
	return asPass(sum), nil
}

func (c *carried) warm(ctx context.Context, lane io.Writer, tasks []scan.Task) (scan.Round, error) {
	list := make([]carry.Task, len(tasks))
	for i, t := range tasks {
		list[i] = carry.Task(t)
	}
	return c.round(func(r carry.Source) (carry.Round, error) { return r.Warm(ctx, lane, list) })
}

func (c *carried) lastRound(ctx context.Context, lane io.Writer) (scan.Round, error) {
	return c.round(func(r carry.Source) (carry.Round, error) { return r.LastRound(ctx, lane) })
}

// beginLastRound has the resources send what is left, while CRIU dumps.
func (c *carried) beginLastRound(ctx context.Context, lane io.Writer, failed func(error)) {
	c.lane = lane
	c.last = inBackground(ctx, func(ctx context.Context) (scan.Round, error) { return c.lastRound(ctx, lane) }, failed)
}

// awaitLastRound waits for the last round, or does it now.
func (c *carried) awaitLastRound(ctx context.Context, lane io.Writer) (scan.Round, error) {
	if c.last == nil {
		return c.lastRound(ctx, lane)
	}
	return c.last.await(ctx)
}

// abort stops the last round and cuts its lane. It does not wait.
func (c *carried) abort() {
	if c.last != nil {
		c.last.abort()
		cutLane(c.lane)
	}
}

func (c *carried) look(ctx context.Context) error {
	return c.each(func(r carry.Source) error { return r.Look(ctx) })
}

func (c *carried) freeze(ctx context.Context) (external []string, err error) {
	for _, r := range c.sources {
		more, err := r.Freeze(ctx)
		if err != nil {
			return nil, err
		}
		external = append(external, more...)
	}
	return external, nil
}

func (c *carried) snapshot(ctx context.Context) error {
	return c.each(func(r carry.Source) error { return r.Snapshot(ctx) })
}

func (c *carried) fixImages() error { return c.each(carry.Source.FixImages) }

func (c *carried) send(lane io.Writer) error {
	return c.each(func(r carry.Source) error { return r.Send(lane) })
}

func (c *carried) each(stage func(carry.Source) error) error {
	for _, r := range c.sources {
		if err := stage(r); err != nil {
			return err
		}
	}
	return nil
}

func (c *carried) thaw() error { return c.every(carry.Source.Thaw) }

// close ends what still goes on first.
func (c *carried) close() error {
	c.abort()
	c.last.wait()
	c.last = nil
	return c.every(carry.Source.Close)
}

// every lets no resource keep another one from its turn.
func (c *carried) every(stage func(carry.Source) error) error {
	var errs []error
	for _, r := range c.sources {
		errs = append(errs, stage(r))
	}
	return errors.Join(errs...)
}

// pageFinder finds pages that the target has. nil: it has none that could be in images.
func (c *carried) pageFinder(m *memory, refer bool) image.Finder {
	var shared []carry.PageFinder
	for _, r := range c.sources {
		if f, ok := r.(carry.PageFinder); ok && !f.Empty() {
			shared = append(shared, f)
		}
	}
	if !refer && shared == nil {
		return nil
	}
	return func(page []byte, own stream.Place) (stream.Place, bool) {
		if own.VPID != 0 {
			return own, refer && m.pages.TargetHas(own, page)
		}
		for _, f := range shared {
			if at, ok := f.FindPage(page); ok {
				return at, true
			}
		}
		return own, false
	}
}
