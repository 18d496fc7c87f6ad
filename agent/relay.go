package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/restore/pagestore"
	"github.com/migrate-hpc/migrate/restore/uffd"
	"github.com/migrate-hpc/migrate/shim"
	"github.com/migrate-hpc/migrate/stream"
	"github.com/migrate-hpc/migrate/transport"
)

// relay is the target's side of a pull, between the source and the job's shim. It
// returns the last word: that the job lacks nothing.
func (a *Agent) relay(ctx context.Context, s *transport.Session, m transport.Message) (transport.Message, error) {
	var ref moveRef
	if err := m.Decode(&ref); err != nil {
		return transport.Message{}, err
	}
	if _, err := a.journal.Answer(ref.Move, s.Peer()); err != nil {
		return transport.Message{}, err
	}
	s.SetRecvTimeout(0) // a source has nothing to say as long as all is well
	release := a.takeOverPull(ref.Move, s)
	defer release()
	r := &relay{a: a, move: ref.Move, session: s}
	if arr := a.arrivalOf(ref.Move); arr != nil && arr.landing.in != nil {
		r.digests = &arr.landing.in.Digests
	}
	return said(sayComplete, r.run(ctx))
}

// takeOverPull makes s the one session that pulls for the move.
func (a *Agent) takeOverPull(m handoff.MoveID, s *transport.Session) (release func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if old := a.pulls[m]; old != nil {
		_ = old.Close() // the source has given it up
	}
	a.pulls[m] = s
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.pulls[m] == s {
			delete(a.pulls, m)
		}
	}
}

type relay struct {
	a       *Agent
	move    handoff.MoveID
	session *transport.Session
	digests *pagestore.Digests // may be nil
}

var (
	errLacksNothing = errors.New("the job lacks nothing")
	errHungUp       = errors.New("the source has hung up")
)

// run returns nil when the job lacks no page, or has ended.
func (r *relay) run(ctx context.Context) error {
	all, ctx := errgroup.WithContext(ctx)
	for _, c := range r.session.Data() {
		all.Go(func() error { return r.lane(ctx, c) })
	}
	all.Go(func() error { return r.hear(ctx) })
	all.Go(func() error {
		err := r.ask(ctx)
		if err == nil {
			err = errLacksNothing
		}
		return err
	})
	stop := context.AfterFunc(ctx, func() { closeConns(r.session.Data()) })
	defer stop()
	if err := all.Wait(); !errors.Is(err, errLacksNothing) {
		return err
	}
	return nil
}

// ask passes on what the shim wants, until it wants nothing more. A shim that is not
// there yet, or busy ending, is asked again.
func (r *relay) ask(ctx context.Context) error {
	for {
		client, over, err := r.shim()
		if err != nil || over {
			return err
		}
		err = client.PageRequests(ctx, func(w []uffd.PageRequest) error { return r.tell(w) })
		if err == nil || ctx.Err() != nil {
			return err
		}
		var broken *tellError
		if errors.As(err, &broken) {
			return err
		}
		if err := r.tell(nil); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(busyPause):
		}
	}
}

// tellError: the source cannot be told what is missing.
type tellError struct{ err error }

func (e *tellError) Error() string { return e.err.Error() }
func (e *tellError) Unwrap() error { return e.err }

func (r *relay) tell(w []uffd.PageRequest) error {
	m, err := transport.NewMessage(sayWant, wants{w})
	if err == nil {
		err = r.session.Send(m)
	}
	if err != nil {
		return &tellError{err}
	}
	return nil
}

// shim finds the shim of the copy that this move has brought. over says that there is
// no such copy any more: it has ended, or left.
func (r *relay) shim() (client *shim.Client, over bool, err error) {
	rec, err := r.a.journal.Get(r.move)
	if err != nil {
		return nil, false, err
	}
	client = r.a.shimOf(job.ID(rec.Job))
	switch rec.State {
	case handoff.StateDropped:
		return nil, false, errors.New("the copy of the job was dropped here")
	case handoff.StateDone:
	default:
		return client, false, nil
	}
	known, err := r.a.jobs.Get(job.ID(rec.Job))
	if errors.Is(err, job.ErrNotFound) || err == nil && (known.FromMove != string(r.move) || !known.Here()) {
		return nil, true, nil
	}
	if err != nil {
		return nil, false, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_, err = client.Status(ctx)
	return client, errors.Is(err, shim.ErrGone), nil
}

// lane takes the pages that come on one connection to the shim.
func (r *relay) lane(ctx context.Context, c net.Conn) error {
	s, err := stream.NewReader(c, stream.KindPages)
	if err != nil {
		return errors.Join(errHungUp, err)
	}
	client, over, err := r.shim()
	if err != nil || over {
		return err
	}
	feed := client.Pages(ctx, true)
	for {
		frame, err := s.ReadFrame()
		if err == io.EOF {
			return feed.Close()
		}
		if err == nil {
			err = r.check(frame)
		}
		if err == nil {
			err = feed.Frame(frame)
		}
		if err != nil {
			feed.Abort()
			var wrong *pagestore.WrongPageError
			if errors.As(err, &wrong) {
				err = errors.Join(err, r.lose(ctx, err.Error()))
			}
			return err
		}
	}
}

// hear waits for what else the source says: that there is nothing left to pull from, or
// nothing, when it has gone.
func (r *relay) hear(ctx context.Context) error {
	for {
		m, err := r.session.RecvContext(ctx)
		if err != nil {
			return errors.Join(errHungUp, err)
		}
		if m.Type != sayLost {
			return fmt.Errorf("%q in the middle of a pull", m.Type)
		}
		var why lost
		if err := m.Decode(&why); err != nil {
			return err
		}
		if err := r.lose(ctx, why.Why); err != nil {
			return err
		}
	}
}

// check compares pages with what the source said before the commit that they hold, if
// it did and this agent has heard it.
func (r *relay) check(frame []byte) error {
	if r.digests == nil {
		return nil
	}
	return stream.EachRun(frame, func(run stream.Run) error {
		if run.Zero {
			return nil
		}
		return r.digests.Arrived(run.VPID, run.Addr, run.Data)
	})
}

// loseTime is how long a shim may take to hear that.
const loseTime = 10 * time.Second

// lose has the job ended, which will never have all of its memory. That the source has
// hung up meanwhile does not change it.
func (r *relay) lose(ctx context.Context, why string) error {
	client, over, err := r.shim()
	if err != nil || over {
		return err
	}
	r.a.log.Error("memory that a job lacks is lost; the job is ended", "move", r.move, "peer", r.session.Peer(), "why", why)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), loseTime)
	defer cancel()
	if err := client.MarkLost(ctx, why); err != nil && !errors.Is(err, shim.ErrGone) {
		return err
	}
	return nil
}
