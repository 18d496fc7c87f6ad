package uffd

import (
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/restore/pageset"
	"github.com/migrate-hpc/migrate/stream"
)

// chunkSize is what a background copy brings at once. A fault waits for the
// copies under way in its address space, so it bounds the delay of a fault.
const chunkSize = 64 * stream.PageSize

// fillSpaces brings pages in the background until all are there.
func (s *Server) fillSpaces(worker int) {
	for {
		sp := s.pick(worker)
		if sp == nil {
			return
		}
		if err := s.fillChunk(sp); err != nil {
			s.fail(fmt.Errorf("fill task %d: %w", sp.vpid, err))
			return
		}
		// A thread that came back with a fault waits for Go's scheduler. On few cores only
		// this lets it run at once.
		runtime.Gosched()
	}
}

// fillChunk brings the next pages of sp, or closes it if there are none.
func (s *Server) fillChunk(sp *space) error {
	chunk, more, err := s.copyNext(sp)
	switch {
	case errors.Is(err, errChanging):
		return s.handle(sp)
	case errors.Is(err, errGone):
		return s.endGone(sp)
	case errors.Is(err, errUnregistered):
		return s.retryUnmapped(sp, chunk)
	case err != nil || more:
		return err
	}
	return s.retire(sp)
}

// copyNext copies one chunk with gate held for reading. more is false if the
// table was empty. With errUnregistered it returns the chunk.
func (s *Server) copyNext(sp *space) (chunk pageset.Span, more bool, err error) {
	sp.gate.RLock()
	defer sp.gate.RUnlock()
	if sp.closed {
		return pageset.Span{}, true, nil
	}
	chunk, more = sp.takeChunk(chunkSize)
	if !more {
		return pageset.Span{}, false, nil
	}
	s.populate(chunk)
	return chunk, true, s.copyOut(sp, chunk)
}

// populate maps a chunk of the store, which saves the kernel a detour for every few pages that it
// copies. It may fail (before Linux 5.14): the copy works without it. If the pages cannot be had,
// the copy reports that.
func (s *Server) populate(chunk pageset.Span) {
	_ = unix.Madvise(s.memory[chunk.Off:chunk.Off+chunk.Bytes()], unix.MADV_POPULATE_READ)
}

// endGone closes an address space that has ended.
func (s *Server) endGone(sp *space) error {
	sp.gate.Lock()
	defer sp.gate.Unlock()
	if sp.closed {
		return nil
	}
	return s.end(sp)
}

// retryUnmapped looks again at pages without a mapping, after all events that may explain it. A
// page that stays expected and has no place would be lost to the job.
func (s *Server) retryUnmapped(sp *space, chunk pageset.Span) error {
	sp.gate.Lock()
	defer sp.gate.Unlock()
	if sp.closed {
		return nil
	}
	if err := s.process(sp); err != nil || sp.closed {
		return err
	}
	for _, page := range sp.table.ready.Within(chunk.Start, chunk.End) {
		page = page.Clip(page.Start, page.Start+stream.PageSize)
		err := s.copyChunk(sp, page)
		switch {
		case err == nil || errors.Is(err, errChanging):
			return nil
		case errors.Is(err, errGone):
			return s.end(sp)
		case errors.Is(err, errUnregistered) && page.Weak:
			return s.drop(sp.table.cut(page.Start, page.End))
		default:
			return err
		}
	}
	return nil
}

// retire closes an address space that lacks nothing. It sets one aside that lacks only what is not
// here. Before that, process makes sure that no fork is under way whose child lacks something.
func (s *Server) retire(sp *space) error {
	sp.gate.Lock()
	defer sp.gate.Unlock()
	if sp.closed {
		return nil
	}
	if err := s.process(sp); err != nil || sp.closed || !sp.table.ready.Empty() {
		return err
	}
	if !sp.table.absent.Empty() {
		sp.idle.Store(true)
		return nil
	}
	return s.end(sp)
}

// pick waits for an address space to fill; nil means that there will be none.
// Forked children come last: many end soon, and what is copied to one was shared
// before.
func (s *Server) pick(worker int) *space {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if s.over() {
			return nil
		}
		if sp := choose(s.spaces, worker); s.filling && sp != nil {
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
