package target

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/httpjson"
	"github.com/migrate-hpc/migrate/agent/node"
	"github.com/migrate-hpc/migrate/agent/peer"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/humanize"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/logkey"
	"github.com/migrate-hpc/migrate/restore/pagestore"
	"github.com/migrate-hpc/migrate/restore/uffd"
	"github.com/migrate-hpc/migrate/shim"
	"github.com/migrate-hpc/migrate/stream"
	"github.com/migrate-hpc/migrate/transport"
)

// TakeOverPull makes s the one session that pulls for the move.
func (t *Targets) TakeOverPull(m handoff.MoveID, s *transport.Session) (release func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if old := t.pulls[m]; old != nil {
		_ = old.Close() // the source has given it up
	}
	t.pulls[m] = s
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.pulls[m] == s {
			delete(t.pulls, m)
		}
	}
}

// Relay passes requests for pages from a job's shim to the source, and the pages back, over one
// session.
type Relay struct {
	Targets *Targets
	Move    handoff.MoveID
	Session *transport.Session
	Digests *pagestore.Digests // may be nil
}

var (
	errComplete = errors.New("the job lacks nothing")
	errHungUp   = errors.New("the source has hung up")
)

// Run returns nil when the job lacks no page, or has ended.
func (r *Relay) Run(ctx context.Context) error {
	all, ctx := errgroup.WithContext(ctx)
	for _, c := range r.Session.Data() {
		all.Go(func() error { return r.lane(ctx, c) })
	}
	all.Go(func() error { return r.recvLost(ctx) })
	all.Go(func() error {
		err := r.relayRequests(ctx)
		if err == nil {
			err = errComplete
		}
		return err
	})
	stop := context.AfterFunc(ctx, func() { CloseConns(r.Session.Data()) })
	defer stop()
	if err := all.Wait(); !errors.Is(err, errComplete) {
		return err
	}
	return nil
}

// relayRequests passes on the shim's requests until it has all pages. It asks a shim again that is
// not there yet, or busy with its end.
func (r *Relay) relayRequests(ctx context.Context) error {
	for {
		client, over, err := r.shim()
		if err != nil || over {
			return err
		}
		err = client.PageRequests(ctx, func(w []uffd.PageRequest) error { return r.sendRequests(w) })
		if err == nil || ctx.Err() != nil {
			return err
		}
		var broken *sendError
		if errors.As(err, &broken) {
			return err
		}
		if err := r.sendRequests(nil); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(httpjson.BusyPause):
		}
	}
}

// sendError says that a request could not be sent to the source.
type sendError struct{ err error }

func (e *sendError) Error() string { return e.err.Error() }
func (e *sendError) Unwrap() error { return e.err }

func (r *Relay) sendRequests(w []uffd.PageRequest) error {
	m, err := transport.NewMessage(peer.SayWant, peer.Wants{Wants: w})
	if err == nil {
		err = r.Session.Send(m)
	}
	if err != nil {
		return &sendError{err}
	}
	return nil
}

// shim finds the shim of the copy that this move has brought. over says that the copy has ended, or
// left.
func (r *Relay) shim() (client *shim.Client, over bool, err error) {
	rec, err := r.Targets.Journal.Get(r.Move)
	if err != nil {
		return nil, false, err
	}
	client = r.Targets.ShimOf(job.ID(rec.Job))
	switch rec.State {
	case handoff.StateDropped:
		return nil, false, errors.New("the copy of the job was dropped here")
	case handoff.StateDone:
	default:
		return client, false, nil
	}
	known, err := r.Targets.Jobs.Get(job.ID(rec.Job))
	if errors.Is(err, job.ErrNotFound) || err == nil && (known.FromMove != string(r.Move) || !known.Here()) {
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

// lane passes pages from one connection to the shim.
func (r *Relay) lane(ctx context.Context, c net.Conn) error {
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
				err = errors.Join(err, r.markLost(ctx, err.Error()))
			}
			return err
		}
	}
}

// recvLost waits for the message that the missing pages are lost, or for the end of the
// connection.
func (r *Relay) recvLost(ctx context.Context) error {
	for {
		m, err := r.Session.RecvContext(ctx)
		if err != nil {
			return errors.Join(errHungUp, err)
		}
		if m.Type != peer.SayLost {
			return fmt.Errorf("%q in the middle of a pull", m.Type)
		}
		var why peer.Lost
		if err := m.Decode(&why); err != nil {
			return err
		}
		if err := r.markLost(ctx, why.Why); err != nil {
			return err
		}
	}
}

// check compares pages with the digests that the source sent before the commit, if this agent has
// them.
func (r *Relay) check(frame []byte) error {
	if r.Digests == nil {
		return nil
	}
	return stream.EachRun(frame, func(run stream.Run) error {
		if run.Zero {
			return nil
		}
		return r.Digests.Arrived(run.VPID, run.Addr, run.Data)
	})
}

// markLostTime bounds markLost.
const markLostTime = 10 * time.Second

// markLost ends a job that will never have all of its memory, even if the source closes the
// connection meanwhile.
func (r *Relay) markLost(ctx context.Context, why string) error {
	client, over, err := r.shim()
	if err != nil || over {
		return err
	}
	r.Targets.Log.Error("memory that a job lacks is lost; the job is ended", logkey.Move, r.Move, logkey.Peer, r.Session.Peer(), logkey.Why, why)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), markLostTime)
	defer cancel()
	if err := client.MarkLost(ctx, why); err != nil && !errors.Is(err, shim.ErrGone) {
		return err
	}
	return nil
}

// fillPause is how often AwaitMemory asks the shim.
const fillPause = 10 * time.Millisecond

// AwaitMemory waits until all memory of a job that came here is in place: a dump would save a
// missing page as zeros. It refuses a job whose memory has not all arrived.
func (t *Targets) AwaitMemory(ctx context.Context, rec job.Record) error {
	for {
		st, err := t.ShimOf(rec.ID).Status(ctx)
		switch {
		case errors.Is(err, shim.ErrGone) || err == nil && !st.Filling:
			return nil
		case err != nil:
			return err
		case st.Absent > 0:
			return t.memoryMissing(rec, st.Absent)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(fillPause):
		}
	}
}

func (t *Targets) memoryMissing(rec job.Record, absent int64) error {
	return &api.Error{Code: api.CodeRefused, Message: fmt.Sprintf("memory is still being pulled from %s: %s are to come", node.PreviousNode(rec), humanize.Size(absent)),
		Where: "on " + t.Config.Node + ", running", Hint: "wait until all is here; `migrate inspect " + string(rec.ID) + "` shows how much is to come"}
}
