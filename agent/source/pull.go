package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/migrate-hpc/migrate/agent/peer"
	"github.com/migrate-hpc/migrate/checkpoint/scan"
	"github.com/migrate-hpc/migrate/logkey"
	"github.com/migrate-hpc/migrate/restore/uffd"
	"github.com/migrate-hpc/migrate/stream"
	"github.com/migrate-hpc/migrate/transport"
)

const (
	// wantTimeout is how long the source waits for a message of the target before it reconnects.
	wantTimeout = 8 * time.Second
	// completeTimeout is how long a target that has closed a lane has to send complete.
	completeTimeout = 500 * time.Millisecond
	// maxPulled bounds the pages that may be outstanding, in bytes: the window of the shim, urgent
	// requests on top of it, and a reserve.
	maxPulled = 2*uffd.RequestWindow + 64<<20
)

// errLost says that memory which the target still lacks is gone.
var errLost = errors.New("the frozen tasks are gone, and their memory with them")

// pulling serves a pull, over one session after another.
type pulling struct {
	sources *Sources
	peer    *peer.Client
	open    func() (*scan.Puller, error)
	pulled  *atomic.Int64 // bytes of memory
	sent    *atomic.Int64 // bytes on the wire
	limit   int64         // of them per second; 0 is none

	missing chan struct{} // closed with the first page that the target wants
	once    sync.Once
}

// run returns nil when the target has every page.
func (p *pulling) run(ctx context.Context) error {
	pause := firstPullPause
	for {
		began := time.Now()
		err := p.try(ctx)
		if err == nil || ctx.Err() != nil {
			return err
		}
		if time.Since(began) > mostPullPause { // the session worked for a while
			pause = firstPullPause
		}
		p.sources.Log.Warn("the pull is interrupted", logkey.Move, p.peer.Move, logkey.Peer, p.peer.Node, logkey.Err, err)
		select {
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		case <-p.sources.Life.Done():
			return errors.Join(context.Cause(p.sources.Life), err)
		case <-time.After(pause):
		}
		pause = min(2*pause, mostPullPause)
	}
}

const (
	firstPullPause = 50 * time.Millisecond
	mostPullPause  = 5 * time.Second
)

// try serves the pull over one session.
func (p *pulling) try(ctx context.Context) error {
	s, err := transport.Dial(ctx, p.peer.Addr, p.peer.Node, p.sources.Identity, 0, transport.WithData(func(trip time.Duration) int {
		return Connections(0, trip) - 1 // no lane for images
	}))
	if err != nil {
		return err
	}
	defer func() {
		p.sent.Add(s.Sent())
		_ = s.Close()
	}()
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	leave := context.AfterFunc(p.sources.Life, func() { _ = s.Close() })
	defer leave()
	m, err := transport.NewMessage(peer.SayPull, peer.MoveRef{Move: p.peer.Move})
	if err == nil {
		err = s.Send(m)
	}
	if err != nil {
		return err
	}
	return p.serve(ctx, s)
}

// serve reads and sends what the target wants until it is complete.
func (p *pulling) serve(ctx context.Context, s *transport.Session) error {
	all, ctx := errgroup.WithContext(ctx)
	stop := context.AfterFunc(ctx, func() { _ = s.Close() }) // writes do not see the end of ctx
	defer stop()
	q, complete, heard := newWantQueue(), false, make(chan struct{})
	all.Go(func() error {
		defer q.close()
		defer close(heard)
		err := p.recvWants(ctx, s, q)
		complete = err == nil
		return err
	})
	first, started := (*scan.Puller)(nil), make(chan struct{})
	all.Go(func() (err error) {
		defer close(started)
		if !q.wait() {
			return nil
		}
		p.once.Do(func() { close(p.missing) })
		if first, err = p.open(); err != nil {
			return p.reportLost(s, err)
		}
		return nil
	})
	for _, c := range LanesOf(ctx, s.Data(), p.limit) {
		all.Go(func() error {
			<-started
			if first == nil {
				return nil
			}
			err := p.lane(q, first.Clone(), c)
			if err == nil {
				return nil
			}
			select { // a target that lacks nothing hangs up on what still comes, then says so
			case <-heard:
			case <-time.After(completeTimeout):
			}
			return p.reportLost(s, err)
		})
	}
	if err := all.Wait(); !complete { // else a lane may have been cut short by that
		return err
	}
	return nil
}

// recvWants queues what the target wants, until it is complete.
func (p *pulling) recvWants(ctx context.Context, s *transport.Session, q *wantQueue) error {
	s.SetRecvTimeout(wantTimeout)
	for {
		m, err := s.RecvContext(ctx)
		if err != nil {
			return fmt.Errorf("hear what is missing: %w", err)
		}
		switch m.Type {
		case peer.SayComplete:
			return nil
		case peer.SayWant:
		default:
			return fmt.Errorf("%s answers %q to %q", s.Peer(), m.Type, peer.SayPull)
		}
		var w peer.Wants
		if err := m.Decode(&w); err != nil {
			return err
		}
		if err := q.push(w.Wants); err != nil {
			return err
		}
	}
}

// lane sends wanted pages on one connection.
func (p *pulling) lane(q *wantQueue, puller *scan.Puller, c io.Writer) (err error) {
	defer func() { err = errors.Join(err, puller.Close()) }()
	out := stream.NewWriter(c, stream.KindPages)
	for {
		w, ok := q.pop()
		if !ok {
			return nil
		}
		frame, err := puller.Read(stream.Place{VPID: w.VPID, Addr: w.Addr}, w.Pages)
		if err == nil {
			err = out.WriteFrame(frame)
		}
		if err != nil {
			return err
		}
		p.pulled.Add(w.Pages * stream.PageSize)
	}
}

// reportLost tells the target if the missing pages are gone for ever; the session then goes on until
// the target is complete without them. Any other error ends the session.
func (p *pulling) reportLost(s *transport.Session, err error) error {
	if !errors.Is(err, errLost) && !errors.Is(err, scan.ErrEnded) {
		return err
	}
	p.sources.Log.Error("memory that is pulled is lost", logkey.Move, p.peer.Move, logkey.Peer, p.peer.Node, logkey.Err, err)
	m, failed := transport.NewMessage(peer.SayLost, peer.Lost{Move: p.peer.Move, Why: err.Error()})
	if failed == nil {
		failed = s.Send(m)
	}
	return failed
}

// wantQueue holds pages to read, urgent ones first: threads wait for those.
type wantQueue struct {
	mu     sync.Mutex
	cond   sync.Cond
	urgent []uffd.PageRequest
	other  []uffd.PageRequest
	asked  int64 // bytes
	closed bool
}

func newWantQueue() *wantQueue {
	q := &wantQueue{}
	q.cond.L = &q.mu
	return q
}

func (q *wantQueue) push(list []uffd.PageRequest) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, w := range list {
		if w.Pages <= 0 || w.Pages > stream.MaxRunPages {
			return fmt.Errorf("%d pages wanted at once", w.Pages)
		}
		if q.asked += w.Pages * stream.PageSize; q.asked > maxPulled {
			return fmt.Errorf("more than %d bytes wanted at once", maxPulled)
		}
		if w.Urgent {
			q.urgent = append(q.urgent, w)
		} else {
			q.other = append(q.other, w)
		}
	}
	q.cond.Broadcast()
	return nil
}

// pop waits for the next want; false is the end.
func (q *wantQueue) pop() (w uffd.PageRequest, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for !q.closed && len(q.urgent)+len(q.other) == 0 {
		q.cond.Wait()
	}
	from := &q.urgent
	if len(*from) == 0 {
		from = &q.other
	}
	if q.closed {
		return w, false
	}
	w, *from = (*from)[0], (*from)[1:]
	q.asked -= w.Pages * stream.PageSize
	return w, true
}

// wait waits until something is wanted; false is the end.
func (q *wantQueue) wait() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for !q.closed && len(q.urgent)+len(q.other) == 0 {
		q.cond.Wait()
	}
	return !q.closed
}

func (q *wantQueue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.cond.Broadcast()
}

// pull is a pulling in the background.
type pull struct {
	pulling
	cancel context.CancelCauseFunc
	done   chan struct{}
	err    error // once done is closed
}
