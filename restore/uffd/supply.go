package uffd

import (
	"errors"
	"fmt"
	"sync"

	"github.com/migrate-hpc/migrate/restore/pageset"
	"github.com/migrate-hpc/migrate/restore/pagestore"
	"github.com/migrate-hpc/migrate/stream"
)

// supply is what comes while the server runs: pages of the push, then those that were
// asked for.
type supply struct {
	server     *Server
	incomplete bool          // AllowIncomplete was called
	opened     chan struct{} // closed when Serve has the store, or has failed

	mu        sync.RWMutex // for writing where pages become available
	pushEnded bool         // what the store has is as of the freeze; written under the server's mu too
	lazy      map[stream.VPID][]pageset.Range
	pending   map[stream.VPID]*pageset.Set // by origin: not known to be as of the freeze
	tasksSeen map[stream.VPID]bool         // handed over by CRIU
	closed    bool                         // Serve has ended
	err       error                        // how
}

// open lets put, deliver and endPush in.
func (p *supply) open(store *pagestore.Store, lazy map[stream.VPID][]pageset.Range) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.server.store, p.lazy = store, lazy
	if p.incomplete {
		p.listPending()
	} else {
		p.pending, p.pushEnded = map[stream.VPID]*pageset.Set{}, true
		p.server.total.Store(store.Bytes())
	}
	close(p.opened)
}

// room is how much the store may grow while the server runs. That is each lazy page once, and the
// warm-up pages that were under way.
func (p *supply) room(lazy map[stream.VPID][]pageset.Range) (n int64) {
	if !p.incomplete {
		return 0
	}
	for _, list := range lazy {
		n += pageset.BytesIn(list)
	}
	return n + extraRoom
}

// extraRoom is address space only.
const extraRoom = 16 << 30

// listPending lists what is still to come of each task.
func (p *supply) listPending() {
	p.pending = make(map[stream.VPID]*pageset.Set, len(p.lazy))
	for vpid, ranges := range p.lazy {
		p.pending[vpid] = originsIn(ranges)
		p.server.total.Add(p.pending[vpid].Data)
		p.server.absent.Add(p.pending[vpid].Data)
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

func (p *supply) put(runs []stream.Run) error {
	<-p.opened
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.closed {
		return p.serveError()
	}
	if p.pushEnded {
		return errors.New("pages come that the restored job may have by now")
	}
	return p.server.store.PutBatch(runs)
}

func (p *supply) pendingOf(vpid stream.VPID) *pageset.Set {
	if set := p.pending[vpid]; set != nil {
		return set
	}
	return &pageset.Set{}
}

func (p *supply) deliver(runs []stream.Run) error {
	<-p.opened
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return p.serveError()
	}
	var fresh []stream.Run
	for _, r := range runs {
		if r.Copy || r.Drop || !p.pushEnded {
			return fmt.Errorf("task %d, %#x: the page was not asked for", r.VPID, r.Addr)
		}
		fresh = append(fresh, p.pendingParts(r)...)
	}
	store := p.server.store
	if err := store.PutBatch(fresh); err != nil {
		for _, r := range fresh { // of which the store may have some
			err = errors.Join(err, store.Release(store.Take(r.VPID, r.Addr, endOf(r))...))
			p.pendingOf(r.VPID).Insert(pageset.Span{Start: r.Addr, End: endOf(r), Off: int64(r.Addr)})
		}
		return err
	}
	for _, r := range fresh {
		if err := p.distribute(r.VPID, r.Addr, endOf(r)); err != nil {
			return err
		}
	}
	p.server.requests.arrived(runs)
	return nil
}

func endOf(r stream.Run) uint64 { return r.Addr + uint64(r.Pages)*stream.PageSize }

// pendingParts takes the part of a run that is still to come out of what is.
func (p *supply) pendingParts(r stream.Run) []stream.Run {
	var out []stream.Run
	for _, sp := range p.pendingOf(r.VPID).Cut(r.Addr, endOf(r)) {
		part := stream.Run{VPID: r.VPID, Addr: sp.Start, Pages: sp.Bytes() / stream.PageSize, Zero: r.Zero}
		if !r.Zero {
			part.Data = r.Data[sp.Start-r.Addr : sp.End-r.Addr]
		}
		out = append(out, part)
	}
	return out
}

func (p *supply) endPush(pull bool) error {
	<-p.opened
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return p.serveError()
	}
	if p.pushEnded {
		return nil
	}
	s := p.server
	gaps := s.store.Gaps(p.lazy)
	if err := pagestore.FirstOf(gaps); err != nil && !pull {
		return err
	}
	if err := s.store.Trim(p.lazy); err != nil {
		return err
	}
	for vpid, missing := range gaps {
		before := p.pending[vpid].Data
		p.pending[vpid] = originsIn(missing)
		if !p.tasksSeen[vpid] {
			s.absent.Add(p.pending[vpid].Data - before)
			continue
		}
		if err := p.deliverAll(vpid, s.store.Take(vpid, 0, stream.MaxAddress), (*table).arriveAll); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p.pushEnded = true
	s.requests.wake()
	return nil
}

// distribute makes pages of the store available to the address spaces that wait for them. Tasks
// that are not there yet get them later. The caller holds mu.
func (p *supply) distribute(vpid stream.VPID, start, end uint64) error {
	s := p.server
	if !p.tasksSeen[vpid] {
		for _, sp := range s.store.Held(vpid, start, end) {
			s.absent.Add(-sp.Bytes())
		}
		return nil
	}
	return p.deliverAll(vpid, s.store.Take(vpid, start, end), (*table).arrive)
}

// deliverAll makes pieces that were taken from the store available to the address spaces
// that wait for them.
//
// A child that is forked meanwhile has what its parent lacked then. It is added to the
// spaces before its parent can be handled. So deliverAll repeats until it finds no new space.
func (p *supply) deliverAll(vpid stream.VPID, pieces []pageset.Span, arrive func(*table, []pageset.Span) []pageset.Span) error {
	seen := make(map[int32]bool)
	for {
		var todo []*space
		for _, sp := range p.server.spacesOf(vpid) {
			if !seen[sp.id] {
				seen[sp.id] = true
				todo = append(todo, sp)
			}
		}
		if len(todo) == 0 {
			return p.server.store.Release(pieces...)
		}
		for _, sp := range todo {
			if err := sp.deliver(pieces, arrive); err != nil {
				return err
			}
		}
	}
}

// tableFor is what a task lacks that CRIU hands over. The caller holds mu. After EndPush, what
// the store has is lazy and not pending.
func (p *supply) tableFor(vpid stream.VPID) (t table) {
	t.await(p.pendingOf(vpid).All())
	if !p.pushEnded {
		return t
	}
	for _, sp := range p.server.store.Take(vpid, 0, stream.MaxAddress) {
		switch {
		case !sp.Zero():
			t.ready.Push(sp)
		case p.incomplete:
			p.server.total.Add(-sp.Bytes())
		}
	}
	return t
}

// unseenBytes is how much memory belongs to tasks that CRIU has not handed over.
func (p *supply) unseenBytes() (n int64) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	for vpid := range p.lazy {
		if !p.tasksSeen[vpid] {
			n += p.server.store.BytesOf(vpid) + p.pendingOf(vpid).Data
		}
	}
	return n
}

// close ends put and deliver, with the result of Serve.
func (p *supply) close(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pending == nil {
		close(p.opened) // it failed before
	}
	p.closed, p.err = true, err
}

func (p *supply) serveError() error {
	if p.err != nil {
		return fmt.Errorf("the fault server has ended: %w", p.err)
	}
	return nil
}
