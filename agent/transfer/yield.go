package transfer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/migrate-hpc/migrate/logkey"

	"github.com/migrate-hpc/migrate/agent/peer"
	"github.com/migrate-hpc/migrate/agent/source"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
)

// Yield ends what this node has of a job that an operator took on the peer.
func (a *Arrivals) Yield(ctx context.Context, peer string, m handoff.MoveID) error {
	rec, err := a.Journal.Get(m)
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
	a.Log.Warn("an operator took the job on the peer", logkey.Job, rec.Job, logkey.Move, m, logkey.Peer, peer, logkey.Role, rec.Role, logkey.State, rec.State)
	if rec.Role == handoff.RoleTarget {
		return a.yieldTarget(ctx, rec)
	}
	s, p, err := a.Recovery.OpenSource(ctx, rec)
	if err != nil {
		return err
	}
	if d, ok := s.(*source.Job); ok {
		s = source.EndingJob{Job: d}
	}
	outcome, err := a.engine().YieldSource(ctx, m, s, p)
	if outcome == handoff.OutcomeUnclean {
		a.Recovery.pursueLater(m)
	}
	return err
}

func (a *Arrivals) yieldTarget(ctx context.Context, rec handoff.Record) error {
	arr := a.ArrivalOf(rec.Move)
	if arr != nil {
		return arr.half.Yield(ctx)
	}
	half, _, err := a.Recovery.OpenTarget(ctx, rec)
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
func (a *Arrivals) sameJob(rec handoff.Record) error {
	if !rec.State.Finished() {
		return nil
	}
	known, err := a.Jobs.Get(job.ID(rec.Job))
	switch {
	case errors.Is(err, job.ErrNotFound):
		return nil
	case err != nil:
		return err
	case known.Exit != nil || known.Epoch <= rec.Epoch:
		return nil
	}
	where := a.Config.Node
	if known.MovedTo != nil {
		where = known.MovedTo.Node
	}
	return fmt.Errorf("job %s went on under epoch %d, and is on %s: find out which copy is the job, and end the other with `migrate rm -f`", rec.Job, known.Epoch, where)
}

// tellPeer tells the other node of an operator's decision, for as long as it takes.
func (a *Arrivals) tellPeer(m handoff.MoveID) {
	a.Background.Go(func() {
		for pause := peer.FirstRetry; ; pause = min(2*pause, peer.LongestRetry) {
			rec, err := a.Journal.Get(m)
			if err != nil || !rec.PeerToTell {
				return
			}
			if err = a.told(rec); err == nil {
				return
			}
			if pause == peer.FirstRetry || peer.IsAnswer(err) {
				a.Log.Warn("the other node has not heard of an operator's decision", logkey.Job, rec.Job, logkey.Move, m, logkey.Peer, rec.Peer, logkey.Err, err)
			}
			select {
			case <-a.Life.Done():
				return
			case <-time.After(pause):
			}
		}
	})
}

func (a *Arrivals) told(rec handoff.Record) error {
	ctx, cancel := context.WithTimeout(a.Life, peer.YieldTime)
	defer cancel()
	err := a.ClientOf(rec).Yield(ctx)
	if err != nil && !errors.Is(err, handoff.ErrUnknownMove) { // a node without a record has no copy
		return err
	}
	a.Log.Info("the other node has yielded", logkey.Job, rec.Job, logkey.Move, rec.Move, logkey.Peer, rec.Peer)
	return a.Journal.PeerTold(rec.Move)
}

// TellPeers goes on with what an earlier agent could not tell.
func (a *Arrivals) TellPeers() {
	recs, _ := a.Journal.List() // those that can be read
	for _, rec := range recs {
		if rec.PeerToTell {
			a.tellPeer(rec.Move)
		}
	}
}
