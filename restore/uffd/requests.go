package uffd

import (
	"context"
	"errors"

	"github.com/migrate-hpc/migrate/restore/pageset"
	"github.com/migrate-hpc/migrate/stream"
)

// ErrSuperseded ends Requests when it was called anew.
var ErrSuperseded = errors.New("another call asks for the missing pages now")

// PageRequest names memory that is requested, by its address at the freeze. A thread waits for an
// urgent one.
type PageRequest struct {
	VPID   stream.VPID `json:"vpid"`
	Addr   uint64      `json:"addr"`
	Pages  int64       `json:"pages"`
	Urgent bool        `json:"urgent,omitempty"`
}

const (
	// RequestWindow bounds what is requested and has not arrived, in bytes; urgent requests come on
	// top. It covers a link of 10 Gbit/s for 25 ms.
	RequestWindow = 32 << 20
	// MaxRequests bounds how many are returned at once.
	MaxRequests = 64

	minRequest = 64 * stream.PageSize // the background's runs grow from here
	maxRequest = stream.MaxRunPages * stream.PageSize
)

// requests is what absent pages are asked for. Its fields are under the server's mu.
type requests struct {
	server     *Server
	generation uint64        // counts what there is to look at
	current    *requestState // nil: no call of Requests is under way
}

// wake has the call look again. The caller holds the server's mu.
func (r *requests) wake() {
	r.generation++
	r.server.changed.Broadcast()
}

// urgent requests absent pages that a thread waits for.
func (r *requests) urgent(vpid stream.VPID, absent []pageset.Span) (news bool) {
	s := r.server
	s.mu.Lock()
	defer s.mu.Unlock()
	a := r.current
	if a == nil || !s.supply.pushEnded {
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
		r.wake()
	}
	return news
}

// arrived notes what has arrived, requested or not.
func (r *requests) arrived(runs []stream.Run) {
	s := r.server
	s.mu.Lock()
	defer s.mu.Unlock()
	a := r.current
	if a == nil {
		return
	}
	for _, run := range runs {
		for _, sp := range pageset.Of(a.asked, run.VPID).Cut(run.Addr, endOf(run)) {
			a.bytes -= sp.Bytes()
		}
		pageset.Of(a.askedUrgently, run.VPID).Cut(run.Addr, endOf(run))
	}
	r.wake()
}

// requestState is what one call of Requests has requested and not got yet, by origin.
type requestState struct {
	server        *Server
	asked         map[stream.VPID]*pageset.Set
	askedUrgently map[stream.VPID]*pageset.Set
	bytes         int64         // asked for
	urgent        []PageRequest // to be handed out
	run           int64
	next          int // the address space to look at next
}

// Requests calls ask with what is absent, until no living task lacks a page. What threads wait for
// comes first. The rest comes in growing runs, with no more than RequestWindow under way. A new
// call ends the one before it, and requests again what Deliver has not brought.
func (s *Server) Requests(ctx context.Context, ask func([]PageRequest) error) error {
	a := &requestState{server: s, asked: map[stream.VPID]*pageset.Set{}, askedUrgently: map[stream.VPID]*pageset.Set{}, run: minRequest}
	s.mu.Lock()
	s.requests.current = a
	s.requests.wake()
	s.mu.Unlock()
	stop := context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.requests.wake()
	})
	defer stop()
	a.awaitPushEnd(ctx)
	for _, sp := range s.living() {
		sp.requestWaiting()
	}
	for {
		wants, err := a.nextRequests(ctx)
		if err != nil || len(wants) == 0 {
			return err
		}
		if err := ask(wants); err != nil {
			return err
		}
	}
}

// requestWaiting requests again what threads wait for.
func (sp *space) requestWaiting() {
	sp.gate.RLock()
	defer sp.gate.RUnlock()
	if sp.closed {
		return
	}
	sp.mu.Lock()
	defer sp.mu.Unlock()
	for _, addr := range sp.waiting {
		window := addr &^ (faultWindow - 1)
		sp.server.requests.urgent(sp.vpid, sp.table.absent.Within(window, window+faultWindow))
	}
}

// awaitPushEnd waits until it is known what is absent, or the wait has become useless.
func (a *requestState) awaitPushEnd(ctx context.Context) {
	s := a.server
	s.mu.Lock()
	defer s.mu.Unlock()
	for !s.supply.pushEnded && ctx.Err() == nil && s.requests.current == a && s.err == nil {
		s.changed.Wait()
	}
}

// nextRequests waits until there is something to request; none is the end.
func (a *requestState) nextRequests(ctx context.Context) ([]PageRequest, error) {
	s := a.server
	for {
		generation, wants, err := a.urgentRequests(ctx)
		if err != nil || len(wants) > 0 {
			return wants, err
		}
		wants, complete := a.backgroundRequests()
		if len(wants) > 0 || complete {
			return wants, nil
		}
		s.mu.Lock()
		for s.requests.generation == generation {
			s.changed.Wait()
		}
		s.mu.Unlock()
	}
}

func (a *requestState) urgentRequests(ctx context.Context) (generation uint64, wants []PageRequest, err error) {
	s := a.server
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		return 0, nil, context.Cause(ctx)
	case s.requests.current != a:
		return 0, nil, ErrSuperseded
	case s.err != nil:
		return 0, nil, s.err
	}
	n := min(len(a.urgent), MaxRequests)
	wants, a.urgent = a.urgent[:n:n], a.urgent[n:]
	return s.requests.generation, wants, nil
}

// backgroundRequests makes the next requests, one address space after the other. With complete
// there are none and will be none.
func (a *requestState) backgroundRequests() (wants []PageRequest, complete bool) {
	s := a.server
	s.mu.Lock()
	complete = s.finished
	s.mu.Unlock()
	spaces := s.living()
	for i := range spaces {
		sp := spaces[(a.next+i)%len(spaces)]
		some, lacks := a.requestsFor(sp)
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
func (a *requestState) requestsFor(sp *space) (wants []PageRequest, lacks bool) {
	sp.gate.RLock()
	defer sp.gate.RUnlock()
	if sp.closed {
		return nil, false
	}
	sp.mu.Lock()
	defer sp.mu.Unlock()
	a.server.mu.Lock()
	defer a.server.mu.Unlock()
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
