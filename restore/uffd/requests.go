package uffd

import (
	"context"
	"errors"
	"time"

	"github.com/migrate-hpc/migrate/restore/pageset"
	"github.com/migrate-hpc/migrate/stream"
)

// ErrSuperseded ends Requests when it was called anew.
var ErrSuperseded = errors.New("another call asks for the missing pages now")

// Requests calls ask with what is absent, until no living task lacks a page. What threads wait for
// comes first. The rest comes in growing runs, with no more than RequestWindow under way. A new
// call ends the one before it, and requests again what Deliver has not brought.
func (s *Server) Requests(ctx context.Context, ask func([]PageRequest) error) error {
	a := &requestState{asked: map[stream.VPID]*pageset.Set{}, askedUrgently: map[stream.VPID]*pageset.Set{}, run: minRequest}
	s.mu.Lock()
	s.requests = a
	s.wakeRequests()
	s.mu.Unlock()
	stop := context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.wakeRequests()
	})
	defer stop()
	s.awaitPushEnd(ctx, a)
	for _, sp := range s.living() {
		s.requestWaiting(sp)
	}
	for {
		wants, err := s.nextRequests(ctx, a)
		if err != nil || len(wants) == 0 {
			return err
		}
		if err := ask(wants); err != nil {
			return err
		}
	}
}

// awaitPushEnd waits until it is known what is absent, or the wait has become useless.
func (s *Server) awaitPushEnd(ctx context.Context, a *requestState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for !s.pushEnded && ctx.Err() == nil && s.requests == a && s.err == nil {
		s.changed.Wait()
	}
}

// nextRequests waits until there is something to request; none is the end.
func (s *Server) nextRequests(ctx context.Context, a *requestState) ([]PageRequest, error) {
	for {
		generation, wants, err := s.urgentRequests(ctx, a)
		if err != nil || len(wants) > 0 {
			return wants, err
		}
		wants, complete := s.backgroundRequests(a)
		if len(wants) > 0 || complete {
			return wants, nil
		}
		s.mu.Lock()
		for s.generation == generation {
			s.changed.Wait()
		}
		s.mu.Unlock()
	}
}

func (s *Server) urgentRequests(ctx context.Context, a *requestState) (generation uint64, wants []PageRequest, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		return 0, nil, context.Cause(ctx)
	case s.requests != a:
		return 0, nil, ErrSuperseded
	case s.err != nil:
		return 0, nil, s.err
	}
	n := min(len(a.urgent), MaxRequests)
	wants, a.urgent = a.urgent[:n:n], a.urgent[n:]
	return s.generation, wants, nil
}

// backgroundRequests makes the next requests, one address space after the other. With complete
// there are none and will be none.
func (s *Server) backgroundRequests(a *requestState) (wants []PageRequest, complete bool) {
	s.mu.Lock()
	complete = s.finished
	s.mu.Unlock()
	spaces := s.living()
	for i := range spaces {
		sp := spaces[(a.next+i)%len(spaces)]
		some, lacks := s.requestsFor(sp, a)
		wants = append(wants, some...)
		complete = complete && !lacks
		if len(wants) >= MaxRequests {
			break
		}
	}
	a.next++
	return wants, complete
}

// requestsFor makes a few requests for one address space.
func (s *Server) requestsFor(sp *space, a *requestState) (wants []PageRequest, lacks bool) {
	sp.gate.RLock()
	defer sp.gate.RUnlock()
	if sp.closed {
		return nil, false
	}
	sp.mu.Lock()
	defer sp.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	absent := &sp.table.absent
	for wrapped := false; a.bytes < RequestWindow && len(wants) < MaxRequests/2; {
		next, ok := absent.Next(sp.nextRequest)
		if !ok && wrapped {
			break
		}
		if !ok {
			sp.nextRequest, wrapped = 0, true
			continue
		}
		chunk := next.Clip(max(next.Start, sp.nextRequest), max(next.Start, sp.nextRequest)+uint64(a.run))
		sp.nextRequest = chunk.End
		for _, free := range a.notAsked(a.asked, sp.vpid, chunk) {
			a.bytes += free.Bytes()
			wants = append(wants, PageRequest{VPID: sp.vpid, Addr: free.Start, Pages: free.Bytes() / stream.PageSize})
			a.run = min(2*a.run, maxRequest)
		}
	}
	return wants, !absent.Empty()
}

// notAsked returns the parts of an absent span, by origin, that are not in the set yet, and adds
// them.
func (a *requestState) notAsked(to map[stream.VPID]*pageset.Set, vpid stream.VPID, sp pageset.Span) []pageset.Span {
	set := pageset.Of(to, vpid)
	at, end := uint64(sp.Off), uint64(sp.Off)+uint64(sp.Bytes())
	var out []pageset.Span
	add := func(start, end uint64) {
		if start < end {
			out = append(out, pageset.Span{Start: start, End: end, Off: int64(start)})
		}
	}
	for _, known := range set.Within(at, end) {
		add(at, known.Start)
		at = known.End
	}
	add(at, end)
	for _, o := range out {
		set.Insert(o)
	}
	return out
}

// requestUrgent requests absent pages that a thread waits for.
func (s *Server) requestUrgent(vpid stream.VPID, absent []pageset.Span) (news bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.requests
	if a == nil || !s.pushEnded {
		return false
	}
	for _, sp := range absent {
		for _, free := range a.notAsked(a.askedUrgently, vpid, sp) {
			a.urgent = append(a.urgent, PageRequest{VPID: vpid, Addr: free.Start, Pages: free.Bytes() / stream.PageSize, Urgent: true})
			news = true
		}
		for _, free := range a.notAsked(a.asked, vpid, sp) {
			a.bytes += free.Bytes()
		}
	}
	if news {
		a.run = minRequest
		s.wakeRequests()
	}
	return news
}

// requestWaiting requests again what threads wait for.
func (s *Server) requestWaiting(sp *space) {
	sp.gate.RLock()
	defer sp.gate.RUnlock()
	if sp.closed {
		return
	}
	sp.mu.Lock()
	defer sp.mu.Unlock()
	for _, addr := range sp.waiting {
		window := addr &^ (faultWindow - 1)
		s.requestUrgent(sp.vpid, sp.table.absent.Within(window, window+faultWindow))
	}
}

// endedEvery is how often address spaces with absent pages are checked for their end.
const endedEvery = 100 * time.Millisecond

// watchEnded closes address spaces that have ended while nothing was copied to them. A copy would
// have told.
func (s *Server) watchEnded() {
	for !s.stopped() {
		time.Sleep(endedEvery)
		for _, sp := range s.living() {
			if !sp.idle.Load() || !s.hasEnded(sp) {
				continue
			}
			if err := s.endGone(sp); err != nil {
				s.fail(err)
				return
			}
		}
	}
}

func (s *Server) hasEnded(sp *space) bool {
	sp.gate.RLock()
	defer sp.gate.RUnlock()
	if sp.closed {
		return false
	}
	sp.mu.Lock()
	defer sp.mu.Unlock()
	first, ok := sp.table.absent.Next(0)
	return ok && gone(sp.fd, first.Start)
}

// noteArrived notes what has arrived, requested or not.
func (s *Server) noteArrived(runs []stream.Run) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.requests == nil {
		return
	}
	for _, r := range runs {
		for _, sp := range pageset.Of(s.requests.asked, r.VPID).Cut(r.Addr, endOf(r)) {
			s.requests.bytes -= sp.Bytes()
		}
		pageset.Of(s.requests.askedUrgently, r.VPID).Cut(r.Addr, endOf(r))
	}
	s.wakeRequests()
}
