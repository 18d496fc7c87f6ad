package transfer

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/migrate-hpc/migrate/agent/node"
	"github.com/migrate-hpc/migrate/agent/target"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/logkey"
	"github.com/migrate-hpc/migrate/namespaces/cgroup"
	"github.com/migrate-hpc/migrate/shim"
)

// Recover goes on with what an earlier agent left undone. It runs beside
// everything else, because the peers that must be asked may be away.
func (a *Recovery) Recover(ctx context.Context) {
	a.Background.Go(func() {
		err := a.Arrivals.engine().Recover(ctx, a, func(rec handoff.Record, err error) {
			a.Log.Info("recovered", logkey.Job, rec.Job, logkey.Move, rec.Move, logkey.Role, rec.Role, logkey.State, rec.State, logkey.Err, err)
			if rec.Role == handoff.RoleSource {
				a.pursueLater(rec.Move)
			} else if arr := a.Arrivals.ArrivalOf(rec.Move); err != nil && arr != nil {
				a.Arrivals.finishLater(arr)
			}
		})
		if err != nil && ctx.Err() == nil {
			a.Log.Error("some moves could not be recovered", logkey.Err, err)
		}
	})
}

// pursueLater goes on with a move whose user was answered already, if its end is
// not in the journal: it was committed and the target is away, or the disk did not
// take the record. It tries until it is.
func (a *Recovery) pursueLater(m handoff.MoveID) {
	a.Background.Go(func() {
		a.insist("a move cannot be finished yet", m, func() error { return a.pursue(m) })
	})
}

func (a *Recovery) pursue(m handoff.MoveID) error {
	rec, err := a.Journal.Get(m)
	if errors.Is(err, handoff.ErrUnknownMove) || err == nil && rec.State.Finished() {
		return nil
	}
	if err != nil {
		return err
	}
	s, p, err := a.OpenSource(a.Life, rec)
	if err != nil {
		return err
	}
	if _, err = a.Arrivals.engine().RecoverSource(a.Life, rec, s, p); err == nil {
		return nil
	}
	if rec, getErr := a.Journal.Get(m); getErr == nil && rec.State.Finished() {
		return nil // an abort is how it ends well
	}
	return err
}

// OpenSource makes the source's half of a move anew; see handoff.Opener.
func (a *Recovery) OpenSource(ctx context.Context, rec handoff.Record) (handoff.Source, handoff.Peer, error) {
	record, err := a.Jobs.Get(job.ID(rec.Job))
	if errors.Is(err, job.ErrNotFound) { // removed since: nothing is frozen, nothing to free
		record, err = job.Record{ID: job.ID(rec.Job)}, nil
	}
	if err != nil {
		return nil, nil, err
	}
	d, err := a.Sources.JobOf(ctx, record, string(rec.Move), nil)
	if err != nil {
		return nil, nil, err
	}
	d.Kind = rec.Kind
	if rec.Kind == handoff.KindCheckpoint {
		x, err := node.SavingOf(rec)
		if err != nil {
			return nil, nil, err
		}
		d.Saved = x.Checkpoint.Name
		return d, a.Transfers.checkpointAgain(rec, record, x), nil
	}
	d.To = &job.Moved{Node: rec.Peer, Addr: rec.PeerAddr, Epoch: rec.Epoch, At: rec.At}
	return d, a.Arrivals.ClientOf(rec), nil
}

// OpenTarget makes the target's half of a move anew; see handoff.Opener.
func (a *Recovery) OpenTarget(_ context.Context, rec handoff.Record) (*handoff.TargetHalf, handoff.Asker, error) {
	l := target.NewJob(a.Targets, string(rec.Move), job.ID(rec.Job))
	arr := &Arrival{a.Arrivals.engine().OpenTarget(rec, l), l, a.Arrivals.ClientOf(rec)}
	if rec.Kind == handoff.KindRestore {
		arr.source = givenUp{}
	}
	a.Arrivals.know(arr)
	half := arr.half
	if half.InDoubt() {
		a.Log.Error("a move waits for an operator: this node went down while it resumed the job", logkey.Job, rec.Job, logkey.Move, rec.Move, logkey.Peer, rec.Peer,
			logkey.Try, "migrate resolve "+string(rec.Move)+" --drop")
	}
	return half, arr.source, nil
}

// givenUp is the source of a restore from a directory whose agent is gone: the
// directory is still there, so the restore is undone.
type givenUp struct{}

func (givenUp) Outcome(context.Context) (handoff.State, error) { return handoff.StateAborted, nil }

// SweepVolatile removes the images and pages of moves that no journal knows any
// more. Those of jobs whose memory is still being filled belong to their shims.
func (a *Recovery) SweepVolatile(ctx context.Context) {
	dirs, err := os.ReadDir(filepath.Join(a.Paths.Memory, "moves"))
	if err != nil {
		return
	}
	for _, d := range dirs {
		rec, err := a.Journal.Get(handoff.MoveID(d.Name()))
		if err == nil && !rec.State.Finished() || a.mayNeed(err) {
			continue
		}
		if err == nil && rec.Role == handoff.RoleTarget {
			if _, err := a.ShimOf(job.ID(rec.Job)).Status(ctx); !errors.Is(err, shim.ErrGone) {
				continue
			}
		}
		if err := os.RemoveAll(a.Paths.Move(d.Name())); err != nil {
			a.Log.Warn("old images", logkey.Dir, d.Name(), logkey.Err, err)
		}
	}
}

// mayNeed tells whether what a move of which the journal says no more has left may be of
// use still: messages of a job that is frozen are in it.
func (a *Recovery) mayNeed(err error) bool {
	if err == nil || errors.Is(err, handoff.ErrUnknownMove) {
		return false
	}
	recs, broken, listErr := a.Jobs.ListAll()
	anyHeld := len(broken) > 0 || listErr != nil
	for _, rec := range recs {
		held, err := (&cgroup.Cgroup{Dirs: rec.Cgroup}).SelfFreezing()
		anyHeld = anyHeld || rec.Here() && (held || err != nil)
	}
	return anyHeld || !errors.Is(err, handoff.ErrAside)
}
