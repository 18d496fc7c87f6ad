package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/shim"
)

// End ends whatever this node has of a copy that may have run.
func (l *landing) End(ctx context.Context) error {
	rec, err := l.a.jobs.Get(l.job)
	mine := err == nil && rec.FromMove == l.move && rec.Here()
	if st, err := l.a.shimOf(l.job).Status(ctx); !mine || err != nil || st.State != shim.Running {
		return l.Drop(ctx)
	}
	from, err := l.origin()
	if err != nil {
		return err
	}
	if err := l.a.endRunning(ctx, rec, l.move, from); err != nil {
		return err
	}
	return os.RemoveAll(l.dir())
}

// origin is where a copy came from: from another node by a move, from a directory by a restore.
type origin struct {
	kind  handoff.Kind
	to    *job.Moved // the node, to which the job goes back
	saved string     // the directory
}

func (l *landing) origin() (origin, error) {
	rec, err := l.a.journal.Get(handoff.MoveID(l.move))
	if err != nil {
		return origin{}, err
	}
	if rec.Kind == handoff.KindMove {
		return origin{kind: rec.Kind, to: &job.Moved{Node: rec.Peer, Addr: rec.PeerAddr, Epoch: rec.Epoch, At: time.Now()}}, nil
	}
	x, err := extraOf(rec)
	return origin{kind: rec.Kind, saved: x.Dir}, err
}

// endCopy ends a copy that runs here and is wanted no more.
func (a *Agent) endCopy(ctx context.Context, rec job.Record, move string, from origin) error {
	d, err := a.departureOf(ctx, rec, move, nil)
	if err != nil {
		return err
	}
	d.kind, d.to, d.saved = from.kind, from.to, from.saved
	return ending{d}.Release(ctx)
}

// ending is a departure of a job that may run, and that is wanted no more: the peer is
// not asked what it lacks.
type ending struct{ *departure }

func (e ending) Release(ctx context.Context) error {
	e.vouched = true
	rec, err := e.a.jobs.Get(e.rec.ID)
	if err == nil && rec.Exit != nil {
		return os.RemoveAll(e.dir) // it came to its end here
	}
	if e.src.Init != 0 {
		if err := e.src.Stop(ctx); err != nil {
			return err
		}
	}
	return e.departure.Release(ctx)
}

// yield ends what this node has of a job that an operator took on the peer.
func (a *Agent) yield(ctx context.Context, peer string, m handoff.MoveID) error {
	rec, err := a.journal.Get(m)
	if errors.Is(err, handoff.ErrAside) { // an operator has looked at what is here
		return fmt.Errorf("move %s: %w", m, handoff.ErrUnknownMove)
	}
	if err == nil && rec.Peer != peer {
		err = fmt.Errorf("move %s: %w", m, handoff.ErrUnknownMove)
	}
	if err == nil {
		err = a.sameJob(rec)
	}
	if err != nil {
		return err
	}
	a.log.Warn("an operator took the job on the peer", "job", rec.Job, "move", m, "peer", peer, "role", rec.Role, "state", rec.State)
	if rec.Role == handoff.RoleTarget {
		return a.yieldTarget(ctx, rec)
	}
	s, p, err := a.OpenSource(ctx, rec)
	if err != nil {
		return err
	}
	if d, ok := s.(*departure); ok {
		s = ending{d}
	}
	outcome, err := a.engine().YieldSource(ctx, m, s, p)
	if outcome == handoff.OutcomeUnclean {
		a.pursueLater(m)
	}
	return err
}

func (a *Agent) yieldTarget(ctx context.Context, rec handoff.Record) error {
	arr := a.arrivalOf(rec.Move)
	if arr != nil {
		return arr.half.Yield(ctx)
	}
	half, _, err := a.OpenTarget(ctx, rec)
	if err != nil {
		return err
	}
	defer func() {
		if half.State().Finished() {
			a.forget(rec.Move)
		}
	}()
	return half.Yield(ctx)
}

// sameJob refuses to end a job that has moved since: what is here, or was, is no
// longer what the operator decided about.
func (a *Agent) sameJob(rec handoff.Record) error {
	if !rec.State.Finished() {
		return nil
	}
	known, err := a.jobs.Get(job.ID(rec.Job))
	switch {
	case errors.Is(err, job.ErrNotFound):
		return nil
	case err != nil:
		return err
	case known.Exit != nil || known.Epoch <= rec.Epoch:
		return nil
	}
	where := a.cfg.Node
	if known.MovedTo != nil {
		where = known.MovedTo.Node
	}
	return fmt.Errorf("job %s went on under epoch %d, and is on %s: find out which copy is the job, and end the other with `migrate rm -f`", rec.Job, known.Epoch, where)
}

// Pauses between two tries to tell a peer.
const (
	firstTold = time.Second
	mostTold  = time.Minute
)

// tellPeer tells the other node of an operator's decision, for as long as it takes.
func (a *Agent) tellPeer(m handoff.MoveID) {
	a.background.Go(func() {
		for pause := firstTold; ; pause = min(2*pause, mostTold) {
			rec, err := a.journal.Get(m)
			if err != nil || !rec.PeerToTell {
				return
			}
			if err = a.told(rec); err == nil {
				return
			}
			if pause == firstTold || isAnswer(err) {
				a.log.Warn("the other node has not heard of an operator's decision", "job", rec.Job, "move", m, "peer", rec.Peer, "err", err)
			}
			select {
			case <-a.life.Done():
				return
			case <-time.After(pause):
			}
		}
	})
}

func (a *Agent) told(rec handoff.Record) error {
	ctx, cancel := context.WithTimeout(a.life, yieldTime)
	defer cancel()
	err := a.remoteOf(rec).Yield(ctx)
	if err != nil && !errors.Is(err, handoff.ErrUnknownMove) { // a node without a record has no copy
		return err
	}
	a.log.Info("the other node has yielded", "job", rec.Job, "move", rec.Move, "peer", rec.Peer)
	return a.journal.Told(rec.Move)
}

// yieldTime is how long the other node may take to end its copy.
const yieldTime = time.Minute

// tellPeers goes on with what an earlier agent could not tell.
func (a *Agent) tellPeers() {
	recs, _ := a.journal.List() // those that can be read
	for _, rec := range recs {
		if rec.PeerToTell {
			a.tellPeer(rec.Move)
		}
	}
}
