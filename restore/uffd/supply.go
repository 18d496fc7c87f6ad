package uffd

import (
	"errors"
	"fmt"

	"github.com/migrate-hpc/migrate/restore/pageset"
	"github.com/migrate-hpc/migrate/restore/pagestore"
	"github.com/migrate-hpc/migrate/stream"
)

// AllowIncomplete makes the server accept a store that is not complete. It serves a page only when
// that is known to be of the freeze. Deliver says so page by page, EndPush for all. It must be
// called before Serve.
func (s *Server) AllowIncomplete() { s.incomplete = true }

// listPending lists what is still to come of each task.
func (s *Server) listPending() {
	s.pending = make(map[stream.VPID]*pageset.Set, len(s.lazy))
	for vpid, ranges := range s.lazy {
		s.pending[vpid] = originsIn(ranges)
		s.total.Add(s.pending[vpid].Data)
		s.absent.Add(s.pending[vpid].Data)
	}
}

// originsIn lists pages by origin. They are still at their origins.
func originsIn(ranges []pageset.Range) *pageset.Set {
	set := &pageset.Set{}
	for _, r := range ranges {
		set.Push(pageset.Span{Start: r.Start, End: r.End, Off: int64(r.Start)})
	}
	return set
}

// Put stores pages that may not be of the freeze yet: a later version replaces an earlier one. It
// waits until Serve has opened the store.
func (s *Server) Put(runs []stream.Run) error {
	<-s.opened
	s.supply.RLock()
	defer s.supply.RUnlock()
	if s.supplyClosed {
		return s.serveError()
	}
	if s.pushEnded {
		return errors.New("pages come that the restored job may have by now")
	}
	return s.store.PutBatch(runs)
}

func (s *Server) pendingOf(vpid stream.VPID) *pageset.Set {
	if p := s.pending[vpid]; p != nil {
		return p
	}
	return &pageset.Set{}
}

// Deliver brings pages of the freeze, data or zero, to the address spaces that wait for them. It
// skips pages that were delivered before, and those that are not lazy. It comes after EndPush;
// after the end of Serve it does nothing.
func (s *Server) Deliver(runs []stream.Run) error {
	<-s.opened
	s.supply.Lock()
	defer s.supply.Unlock()
	if s.supplyClosed {
		return s.serveError()
	}
	var fresh []stream.Run
	for _, r := range runs {
		if r.Copy || r.Drop || !s.pushEnded {
			return fmt.Errorf("task %d, %#x: the page was not asked for", r.VPID, r.Addr)
		}
		fresh = append(fresh, s.pendingParts(r)...)
	}
	if err := s.store.PutBatch(fresh); err != nil {
		for _, r := range fresh { // of which the store may have some
			err = errors.Join(err, s.store.Release(s.store.Take(r.VPID, r.Addr, endOf(r))...))
			s.pendingOf(r.VPID).Insert(pageset.Span{Start: r.Addr, End: endOf(r), Off: int64(r.Addr)})
		}
		return err
	}
	for _, r := range fresh {
		if err := s.distribute(r.VPID, r.Addr, endOf(r)); err != nil {
			return err
		}
	}
	s.noteArrived(runs)
	return nil
}

func endOf(r stream.Run) uint64 { return r.Addr + uint64(r.Pages)*stream.PageSize }

// pendingParts takes the part of a run that is still to come out of what is.
func (s *Server) pendingParts(r stream.Run) []stream.Run {
	var out []stream.Run
	for _, sp := range s.pendingOf(r.VPID).Cut(r.Addr, endOf(r)) {
		part := stream.Run{VPID: r.VPID, Addr: sp.Start, Pages: sp.Bytes() / stream.PageSize, Zero: r.Zero}
		if !r.Zero {
			part.Data = r.Data[sp.Start-r.Addr : sp.End-r.Addr]
		}
		out = append(out, part)
	}
	return out
}

// EndPush says that every page in the store is of the freeze. With pull, Deliver brings the
// missing ones. Without, a missing page is ErrMissing, and nothing has changed. A second call
// changes nothing.
func (s *Server) EndPush(pull bool) error {
	<-s.opened
	s.supply.Lock()
	defer s.supply.Unlock()
	if s.supplyClosed {
		return s.serveError()
	}
	if s.pushEnded {
		return nil
	}
	gaps := s.store.Gaps(s.lazy)
	if err := pagestore.FirstOf(gaps); err != nil && !pull {
		return err
	}
	if err := s.store.Trim(s.lazy); err != nil {
		return err
	}
	for vpid, missing := range gaps {
		before := s.pending[vpid].Data
		s.pending[vpid] = originsIn(missing)
		if !s.tasksSeen[vpid] {
			s.absent.Add(s.pending[vpid].Data - before)
			continue
		}
		if err := s.deliverAll(vpid, s.store.Take(vpid, 0, stream.MaxAddress), (*table).arriveAll); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pushEnded = true
	s.wakeRequests()
	return nil
}

// distribute makes pages of the store available to the address spaces that wait for them. Tasks
// that are not there yet get them later. The caller holds supply.
func (s *Server) distribute(vpid stream.VPID, start, end uint64) error {
	if !s.tasksSeen[vpid] {
		for _, sp := range s.store.Held(vpid, start, end) {
			s.absent.Add(-sp.Bytes())
		}
		return nil
	}
	return s.deliverAll(vpid, s.store.Take(vpid, start, end), (*table).arrive)
}

// deliverAll makes pieces that were taken from the store available to the address spaces
// that wait for them.
//
// A child that is forked meanwhile has what its parent lacked then. It is added to the
// spaces before its parent can be handled. So deliverAll repeats until it finds no new space.
func (s *Server) deliverAll(vpid stream.VPID, pieces []pageset.Span, arrive func(*table, []pageset.Span) []pageset.Span) error {
	seen := make(map[int32]bool)
	for {
		var todo []*space
		for _, sp := range s.spacesOf(vpid) {
			if !seen[sp.id] {
				seen[sp.id] = true
				todo = append(todo, sp)
			}
		}
		if len(todo) == 0 {
			return s.store.Release(pieces...)
		}
		for _, sp := range todo {
			if err := s.deliverTo(sp, pieces, arrive); err != nil {
				return err
			}
		}
	}
}

// deliverTo makes pages ready in one address space.
func (s *Server) deliverTo(sp *space, pieces []pageset.Span, arrive func(*table, []pageset.Span) []pageset.Span) error {
	if !s.makeReady(sp, pieces, arrive) {
		return nil
	}
	err := s.handle(sp)
	if err != nil {
		s.fail(err)
	}
	return err
}

// makeReady returns whether a thread waits for one of the pages.
func (s *Server) makeReady(sp *space, pieces []pageset.Span, arrive func(*table, []pageset.Span) []pageset.Span) (wake bool) {
	sp.gate.RLock()
	defer sp.gate.RUnlock()
	if sp.closed {
		return false
	}
	sp.mu.Lock()
	defer sp.mu.Unlock()
	came := arrive(&sp.table, pieces)
	for _, c := range came {
		s.absent.Add(-c.Bytes())
		if c.Zero() {
			s.total.Add(-c.Bytes())
		}
	}
	s.store.Retain(came)
	for _, addr := range sp.waiting {
		wake = wake || len(sp.table.absent.Within(addr, addr+stream.PageSize)) == 0
	}
	s.clearIdle(sp)
	return wake
}

// tableFor is what a task lacks that CRIU hands over. The caller holds supply. After EndPush, what
// the store has is lazy and not pending.
func (s *Server) tableFor(vpid stream.VPID) (t table) {
	t.await(s.pendingOf(vpid).All())
	if !s.pushEnded {
		return t
	}
	for _, sp := range s.store.Take(vpid, 0, stream.MaxAddress) {
		switch {
		case !sp.Zero():
			t.ready.Push(sp)
		case s.incomplete:
			s.total.Add(-sp.Bytes())
		}
	}
	return t
}

// closeSupply ends Put and Deliver, with the result of Serve.
func (s *Server) closeSupply(err error) {
	s.supply.Lock()
	defer s.supply.Unlock()
	if s.pending == nil {
		close(s.opened) // it failed before
	}
	s.supplyClosed, s.serveErr = true, err
}

func (s *Server) serveError() error {
	if s.serveErr != nil {
		return fmt.Errorf("the fault server has ended: %w", s.serveErr)
	}
	return nil
}
