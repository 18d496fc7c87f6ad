package uffd

import (
	"errors"
	"fmt"
	"runtime"

	"github.com/migrate-hpc/migrate/restore/pageset"
	"github.com/migrate-hpc/migrate/stream"
)

// filler is a worker of the background.
type filler struct {
	server *Server
	number int // among the workers
}

// fill brings pages until all are there.
func (f *filler) fill() {
	for {
		sp := f.pick()
		if sp == nil {
			return
		}
		if err := sp.fillChunk(); err != nil {
			f.server.fail(fmt.Errorf("fill task %d: %w", sp.vpid, err))
			return
		}
		// A thread that came back with a fault waits for Go's scheduler. On few cores only
		// this lets it run at once.
		runtime.Gosched()
	}
}

// fillChunk brings the next pages of sp, or closes it if there are none.
func (sp *space) fillChunk() error {
	chunk, more, err := sp.copyNext()
	switch {
	case errors.Is(err, errChanging):
		return sp.handle()
	case errors.Is(err, errGone):
		return sp.endGone()
	case errors.Is(err, errUnregistered):
		return sp.retryUnmapped(chunk)
	case err != nil || more:
		return err
	}
	return sp.retire()
}

// retryUnmapped looks again at pages without a mapping, after all events that may explain it. A
// page that stays expected and has no place would be lost to the job.
func (sp *space) retryUnmapped(chunk pageset.Span) error {
	sp.gate.Lock()
	defer sp.gate.Unlock()
	if sp.closed {
		return nil
	}
	if err := sp.process(); err != nil || sp.closed {
		return err
	}
	for _, page := range sp.table.ready.Within(chunk.Start, chunk.End) {
		page = page.Clip(page.Start, page.Start+stream.PageSize)
		err := sp.copyChunk(page)
		switch {
		case err == nil || errors.Is(err, errChanging):
			return nil
		case errors.Is(err, errGone):
			return sp.end()
		case errors.Is(err, errUnregistered) && page.Weak:
			return sp.server.drop(sp.table.cut(page.Start, page.End))
		default:
			return err
		}
	}
	return nil
}

// retire closes an address space that lacks nothing. It sets one aside that lacks only what is not
// here. Before that, process makes sure that no fork is under way whose child lacks something.
func (sp *space) retire() error {
	sp.gate.Lock()
	defer sp.gate.Unlock()
	if sp.closed {
		return nil
	}
	if err := sp.process(); err != nil || sp.closed || !sp.table.ready.Empty() {
		return err
	}
	if !sp.table.absent.Empty() {
		sp.idle.Store(true)
		return nil
	}
	return sp.end()
}

// pick waits for an address space to fill; nil means that there will be none.
// Forked children come last: many end soon, and what is copied to one was shared
// before.
func (f *filler) pick() *space {
	s := f.server
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if s.over() {
			return nil
		}
		if sp := choose(s.spaces, f.number); s.filling && sp != nil {
			return sp
		}
		s.changed.Wait()
	}
}

// choose returns nil if there is nothing to copy to any address space now.
func choose(spaces []*space, worker int) *space {
	var restored, forked []*space
	for _, sp := range spaces {
		switch {
		case sp.idle.Load():
		case sp.forked:
			forked = append(forked, sp)
		default:
			restored = append(restored, sp)
		}
	}
	if len(restored) == 0 {
		restored = forked
	}
	if len(restored) == 0 {
		return nil
	}
	return restored[worker%len(restored)]
}
