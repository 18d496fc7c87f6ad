package scan

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/migrate-hpc/migrate/osthread"
	"github.com/migrate-hpc/migrate/stream"
)

// worker reads memory that is bound to a lane.
type worker struct {
	lane   *lane
	reader reader
	batch  *batch
	clock  *osthread.Clock
	count  func(int64)
}

func newWorker(l *lane) (*worker, error) {
	b, err := newBatch()
	if err != nil {
		return nil, err
	}
	return &worker{lane: l, batch: b}, nil
}

func (w *worker) close() error { return w.batch.close() }

// begin prepares the worker for a pass.
func (w *worker) begin(count func(int64)) {
	if count == nil {
		count = func(int64) {}
	}
	w.count = count
	w.batch.reset()
}

// work does its work until the channel ends. The clock is that of the thread.
func (w *worker) work(ctx context.Context, clock *osthread.Clock, work <-chan []workRange) error {
	w.clock = clock
	wall, began := time.Now(), clock.Now()
	err := w.workRanges(ctx, work)
	w.lane.wait(max(0, time.Since(wall)-(clock.Now()-began)))
	return errors.Join(err, w.reader.close())
}

func (w *worker) workRanges(ctx context.Context, work <-chan []workRange) error {
	for stretches := range work {
		for _, s := range stretches {
			if ctx.Err() != nil {
				return nil
			}
			if err := w.pick(s); err != nil {
				return err
			}
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	if err := w.read(); err != nil {
		return err
	}
	return w.lane.end(w.clock)
}

// pick picks the pages of a range that have to be read.
func (w *worker) pick(s workRange) error {
	if s.task != w.batch.task {
		if err := w.read(); err != nil {
			return err
		}
		w.batch.task = s.task
	}
	base := s.addr &^ (chunkSize - 1)
	slab, number, err := w.lane.slab(s.task.VPID, base)
	if err != nil {
		return err
	}
	page := int((s.addr - base) / stream.PageSize)
	end := page + s.pages
	done := w.lane.done(slab, s.clean)
	for {
		from, to := page, end
		if done != nil {
			from, to = done.gap(page, end)
		}
		if from == to {
			return nil
		}
		if err := w.queue(slabRange{slab, number, from, to - from}); err != nil {
			return err
		}
		page = to
	}
}

// queue has pages read, or forgotten.
func (w *worker) queue(p slabRange) error {
	if w.lane.mode == modeDrop {
		return w.lane.dropPages(w.clock, p)
	}
	for p.pages > 0 {
		n := w.batch.add(p)
		p.page, p.pages = p.page+n, p.pages-n
		if w.batch.pages == batchPages {
			if err := w.read(); err != nil {
				return err
			}
		}
	}
	return nil
}

// read reads the queued pages and records them.
func (w *worker) read() error {
	b := w.batch
	if b.pages == 0 {
		return nil
	}
	start := w.clock.Now()
	lost := b.lost[:b.pages]
	if err := w.reader.read(b.task, b.addrs, b.data, lost); err != nil && w.lane.mode.mustRead() {
		at := b.place(slices.Index(lost, true))
		return &ReadError{VPID: at.VPID, PID: b.task.PID, Addr: at.Addr, Err: err}
	}
	if w.lane.mode != modeVerify {
		b.sum(w.lane.ledger)
	}
	b.took = w.clock.Now() - start
	if err := w.lane.recordAll(w.clock, b); err != nil {
		return err
	}
	w.count(b.size())
	b.reset()
	w.clock.TakeTurn()
	return nil
}
