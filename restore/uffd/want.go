package uffd

import (
	"context"
	"errors"
	"time"

	"github.com/migrate-hpc/migrate/restore/pageset"
	"github.com/migrate-hpc/migrate/stream"
)

// Want names memory that is asked for, as it was at the freeze. An urgent one has a
// thread waiting for it.
type PageRequest struct {
	VPID   stream.VPID `json:"vpid"`
	Addr   uint64      `json:"addr"`
	Pages  int64       `json:"pages"`
	Urgent bool        `json:"urgent,omitempty"`
}

const (
	// RequestWindow bounds what is asked for and has not arrived, in bytes; urgent
	// wants come on top. It covers a link of 10 Gbit/s for 25 ms.
	RequestWindow = 32 << 20
	// MaxRequests bounds how many are handed out at once.
	MaxRequests = 64

	firstAsk = 64 * stream.PageSize // the background's runs grow from here
	mostAsk  = stream.MaxRunPages * stream.PageSize
)

// ErrSuperseded ends Requests when it was called anew.
var ErrSuperseded = errors.New("somebody else asks for the missing pages now")

// asking is what one call of Requests has asked for and not got yet, by origin.
type asking struct {
	asked   map[stream.VPID]*pageset.Set
	hurried map[stream.VPID]*pageset.Set // urgently
	bytes   int64                        // asked
	urgent  []PageRequest                // to be handed out
	run     int64
	next    int // the address space to look at next
}

// Requests tells ask what is absent, until nothing is or nobody lives who could miss it:
// first what threads wait for, the rest in growing runs as long as no more than
// RequestWindow is under way. What a call has handed out and Deliver has not brought is
// handed out again by the next call, which ends this one.
func (s *Server) Requests(ctx context.Context, ask func([]PageRequest) error) error {
	a := &asking{asked: map[stream.VPID]*pageset.Set{}, hurried: map[stream.VPID]*pageset.Set{}, run: firstAsk}
	s.mu.Lock()
	s.asking = a
	s.stir()
	s.mu.Unlock()
	stop := context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.stir()
	})
	defer stop()
	s.awaitSettled(ctx, a)
	for _, sp := range s.living() {
		s.urgeWaiting(sp)
	}
	for {
		wants, err := s.nextWants(ctx, a)
		if err != nil || len(wants) == 0 {
			return err
		}
		if err := ask(wants); err != nil {
			return err
		}
	}
}

// awaitSettled waits until it is known what is absent, or there is no use in that.
func (s *Server) awaitSettled(ctx context.Context, a *asking) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for !s.settled && ctx.Err() == nil && s.asking == a && s.err == nil {
		s.changed.Wait()
	}
}

// nextWants waits until there is something to ask for; none is the end.
func (s *Server) nextWants(ctx context.Context, a *asking) ([]PageRequest, error) {
	for {
		turn, wants, err := s.urgentWants(ctx, a)
		if err != nil || len(wants) > 0 {
			return wants, err
		}
		wants, complete := s.backgroundWants(a)
		if len(wants) > 0 || complete {
			return wants, nil
		}
		s.mu.Lock()
		for s.turn == turn {
			s.changed.Wait()
		}
		s.mu.Unlock()
	}
}

func (s *Server) urgentWants(ctx context.Context, a *asking) (turn uint64, wants []PageRequest, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		return 0, nil, context.Cause(ctx)
	case s.asking != a:
		return 0, nil, ErrSuperseded
	case s.err != nil:
		return 0, nil, s.err
	}
	n := min(len(a.urgent), MaxRequests)
	wants, a.urgent = a.urgent[:n:n], a.urgent[n:]
	return s.turn, wants, nil
}

// backgroundWants takes the next wants of each address space in turn. complete says
// that there are none and will be none.
func (s *Server) backgroundWants(a *asking) (wants []PageRequest, complete bool) {
	s.mu.Lock()
	complete = s.finished
	s.mu.Unlock()
	spaces := s.living()
	for i := range spaces {
		sp := spaces[(a.next+i)%len(spaces)]
		some, lacks := s.askFor(sp, a)
		wants = append(wants, some...)
		complete = complete && !lacks
		if len(wants) >= MaxRequests {
			break
		}
	}
	a.next++
	return wants, complete
}

// askFor takes a few runs of one address space.
func (s *Server) askFor(sp *space, a *asking) (wants []PageRequest, lacks bool) {
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
		next, ok := absent.Next(sp.ask)
		if !ok && wrapped {
			break
		}
		if !ok {
			sp.ask, wrapped = 0, true
			continue
		}
		chunk := next.Clip(max(next.Start, sp.ask), max(next.Start, sp.ask)+uint64(a.run))
		sp.ask = chunk.End
		for _, free := range a.fresh(a.asked, sp.vpid, chunk) {
			a.bytes += free.Bytes()
			wants = append(wants, PageRequest{VPID: sp.vpid, Addr: free.Start, Pages: free.Bytes() / stream.PageSize})
			a.run = min(2*a.run, mostAsk)
		}
	}
	return wants, !absent.Empty()
}

// fresh returns the parts of an absent span, by origin, that are not in the set yet,
// and adds them.
func (a *asking) fresh(to map[stream.VPID]*pageset.Set, vpid stream.VPID, sp pageset.Span) []pageset.Span {
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

// urge asks for absent pages that a thread waits for.
func (s *Server) urge(vpid stream.VPID, absent []pageset.Span) (news bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.asking
	if a == nil || !s.settled {
		return false
	}
	for _, sp := range absent {
		for _, free := range a.fresh(a.hurried, vpid, sp) {
			a.urgent = append(a.urgent, PageRequest{VPID: vpid, Addr: free.Start, Pages: free.Bytes() / stream.PageSize, Urgent: true})
			news = true
		}
		for _, free := range a.fresh(a.asked, vpid, sp) {
			a.bytes += free.Bytes()
		}
	}
	if news {
		a.run = firstAsk
		s.stir()
	}
	return news
}

// urgeWaiting asks again for what threads wait for.
func (s *Server) urgeWaiting(sp *space) {
	sp.gate.RLock()
	defer sp.gate.RUnlock()
	if sp.closed {
		return
	}
	sp.mu.Lock()
	defer sp.mu.Unlock()
	for _, addr := range sp.waiting {
		window := addr &^ (aroundSize - 1)
		s.urge(sp.vpid, sp.table.absent.Within(window, window+aroundSize))
	}
}

// deathsEvery is how often address spaces are looked at whose absent pages nobody
// may miss any more.
const deathsEvery = 100 * time.Millisecond

// noticeDeaths lets go of address spaces that have ended while nothing was copied to
// them, which would have told.
func (s *Server) noticeDeaths() {
	for !s.stopped() {
		time.Sleep(deathsEvery)
		for _, sp := range s.living() {
			if !sp.idle.Load() || !s.hasEnded(sp) {
				continue
			}
			if err := s.lose(sp); err != nil {
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

// answered notes what has arrived, wanted or not.
func (s *Server) answered(runs []stream.Run) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asking == nil {
		return
	}
	for _, r := range runs {
		for _, sp := range pageset.Of(s.asking.asked, r.VPID).Cut(r.Addr, endOf(r)) {
			s.asking.bytes -= sp.Bytes()
		}
		pageset.Of(s.asking.hurried, r.VPID).Cut(r.Addr, endOf(r))
	}
	s.stir()
}

// stir has Requests look again. The caller holds mu.
func (s *Server) stir() {
	s.turn++
	s.changed.Broadcast()
}

func (s *Server) living() []*space {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*space(nil), s.spaces...)
}
