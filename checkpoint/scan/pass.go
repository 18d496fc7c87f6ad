package scan

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/migrate-hpc/migrate/osthread"
)

// pass has the workers of each lane do the work of the plan. The first error, or the end of ctx,
// stops all; pass returns when they have stopped. It does not interrupt a worker in WriteFrame: a
// caller that cancels ctx also makes the sinks fail.
func (m *Memory) pass(ctx context.Context, mode mode, sinks []Sink, plan func(*planner) error) (Round, error) {
	if len(sinks) != len(m.lanes) {
		return Round{}, fmt.Errorf("memory of %d lanes sent on %d", len(m.lanes), len(sinks))
	}
	if m.broken { // what the tracker said then was not acted upon
		m.clearRead(0)
	}
	start := time.Now()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	p := newPlanner(ctx, mode, len(m.lanes), m.tracker)
	workers, err := m.passWorkers(mode)
	if err != nil {
		return Round{}, err
	}
	await := m.startWork(ctx, workers, mode, sinks, p, stop)
	if err := errors.Join(plan(p), p.flush()); err != nil {
		stop(err)
	}
	p.close()
	await()
	round := m.total(len(workers))
	round.Present, round.Took = p.present, time.Since(start)
	err = context.Cause(ctx)
	m.broken = err != nil
	if err != nil {
		return round, fmt.Errorf("send memory: %w", err)
	}
	return round, nil
}

// startWork starts the workers, and returns what waits for their end.
func (m *Memory) startWork(ctx context.Context, workers []*worker, mode mode, sinks []Sink, p *planner, stop context.CancelCauseFunc) (await func()) {
	for i, l := range m.lanes {
		l.begin(mode, sinks[i], len(workers)/len(m.lanes))
	}
	var done sync.WaitGroup
	for i, w := range workers {
		w.begin(m.Count)
		work := func(clock *osthread.Clock) {
			if err := w.work(ctx, clock, p.work[i%len(m.lanes)]); err != nil {
				stop(err)
			}
		}
		switch {
		case mode != modePreCopy:
			done.Go(func() { work(osthread.Wall()) })
		case m.FullSpeed:
			done.Go(func() { osthread.Timed(work) })
		default: // the job runs, and comes first
			done.Go(func() { osthread.Politely(work) })
		}
	}
	return done.Wait
}

// passWorkers are the workers of a pass, the same number for each lane. A frozen job leaves the
// node's processors to Scan, and there may be more of them than lanes.
func (m *Memory) passWorkers(mode mode) ([]*worker, error) {
	n := len(m.lanes)
	if mode == modeScan || mode == modePostCopy {
		n = m.scanners()
	}
	for len(m.workers) < n {
		w, err := newWorker(m.lanes[len(m.workers)%len(m.lanes)])
		if err != nil {
			return nil, err
		}
		m.workers = append(m.workers, w)
	}
	return m.workers[:n], nil
}

// scanners is how many workers a Scan has.
func (m *Memory) scanners() int {
	n := len(m.lanes)
	return n * ((m.processors + n - 1) / n)
}

// total is what so many workers have done.
func (m *Memory) total(workers int) Round {
	var round Round
	for _, l := range m.lanes {
		round.count(l.round)
		round.Reading += l.round.Reading / time.Duration(workers)
		round.Waiting += l.round.Waiting / time.Duration(workers)
		round.Scanning += l.round.Reading / time.Duration(m.scanners())
		round.Writing += l.round.Writing / time.Duration(len(m.lanes))
	}
	return round
}
