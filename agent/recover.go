package agent

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/namespaces"
	"github.com/migrate-hpc/migrate/shim"
)

// recover goes on with what an earlier agent left undone. It runs beside
// everything else, because the peers that must be asked may be away.
func (a *Agent) recover(ctx context.Context) {
	a.background.Go(func() {
		err := a.engine().Recover(ctx, a, func(rec handoff.Record, err error) {
			a.log.Info("recovered", "job", rec.Job, "move", rec.Move, "role", rec.Role, "state", rec.State, "err", err)
			if rec.Role == handoff.RoleSource {
				a.pursueLater(rec.Move)
			} else if arr := a.arrivalOf(rec.Move); err != nil && arr != nil {
				a.finishLater(arr)
			}
		})
		if err != nil && ctx.Err() == nil {
			a.log.Error("some moves could not be recovered", "err", err)
		}
	})
}

// pursueLater goes on with a move whose user was answered already, if its end is
// not in the journal: it was committed and the target is away, or the disk did not
// take the record. It tries until it is.
func (a *Agent) pursueLater(m handoff.MoveID) {
	a.background.Go(func() {
		a.insist("a move cannot be finished yet", m, func() error { return a.pursue(m) })
	})
}

func (a *Agent) pursue(m handoff.MoveID) error {
	rec, err := a.journal.Get(m)
	if errors.Is(err, handoff.ErrUnknownMove) || err == nil && rec.State.Finished() {
		return nil
	}
	if err != nil {
		return err
	}
	s, p, err := a.OpenSource(a.life, rec)
	if err != nil {
		return err
	}
	if _, err = a.engine().RecoverSource(a.life, rec, s, p); err == nil {
		return nil
	}
	if rec, getErr := a.journal.Get(m); getErr == nil && rec.State.Finished() {
		return nil // an abort is how it ends well
	}
	return err
}

// insist calls do until it succeeds or the agent ends.
func (a *Agent) insist(complaint string, m handoff.MoveID, do func() error) {
	for pause := firstRetry; ; pause = min(2*pause, lastRetry) {
		err := do()
		if err == nil || a.life.Err() != nil {
			return
		}
		a.log.Error(complaint, "move", m, "err", err)
		select {
		case <-a.life.Done():
			return
		case <-time.After(pause):
		}
	}
}

const (
	firstRetry = 500 * time.Millisecond
	lastRetry  = time.Minute
)

// OpenSource makes the source's half of a move anew; see handoff.Opener.
func (a *Agent) OpenSource(ctx context.Context, rec handoff.Record) (handoff.Source, handoff.Peer, error) {
	record, err := a.jobs.Get(job.ID(rec.Job))
	if errors.Is(err, job.ErrNotFound) { // removed since: nothing is frozen, nothing to free
		record, err = job.Record{ID: job.ID(rec.Job)}, nil
	}
	if err != nil {
		return nil, nil, err
	}
	d, err := a.departureOf(ctx, record, string(rec.Move), nil)
	if err != nil {
		return nil, nil, err
	}
	d.kind = rec.Kind
	if rec.Kind == handoff.KindCheckpoint {
		x, err := extraOf(rec)
		if err != nil {
			return nil, nil, err
		}
		d.saved = x.Dir
		owner := caller{uid: x.UID, gid: x.GID, groups: x.Groups}
		dir := &directory{path: filepath.Clean(x.Dir), owner: owner, move: string(rec.Move), id: x.inode}
		return d, &saving{a: a, rec: record, id: rec.Move, dir: dir, recovering: true, req: api.CheckpointRequest{Dir: x.Dir, LeaveRunning: x.LeaveRunning}}, nil
	}
	d.to = &job.Moved{Node: rec.Peer, Addr: rec.PeerAddr, Epoch: rec.Epoch, At: rec.At}
	return d, a.remoteOf(rec), nil
}

// OpenTarget makes the target's half of a move anew; see handoff.Opener.
func (a *Agent) OpenTarget(_ context.Context, rec handoff.Record) (*handoff.TargetHalf, handoff.Asker, error) {
	l := newLanding(a, string(rec.Move), job.ID(rec.Job))
	arr := &arrival{a.engine().OpenTarget(rec, l), l, a.remoteOf(rec)}
	if rec.Kind == handoff.KindRestore {
		arr.source = givenUp{}
	}
	a.know(arr)
	half := arr.half
	if half.InDoubt() {
		a.log.Error("a move waits for an operator: this node went down while it resumed the job", "job", rec.Job, "move", rec.Move, "peer", rec.Peer,
			"try", "migrate resolve "+string(rec.Move)+" --drop")
	}
	return half, arr.source, nil
}

// givenUp is the source of a restore from a directory whose agent is gone: the
// directory is still there, so the restore is undone.
type givenUp struct{}

func (givenUp) Outcome(context.Context) (handoff.State, error) { return handoff.StateAborted, nil }

// sweepVolatile removes the images and pages of moves that no journal knows any
// more. Those of jobs whose memory is still being filled belong to their shims.
func (a *Agent) sweepVolatile(ctx context.Context) {
	dirs, err := os.ReadDir(filepath.Join(a.paths.memory, "moves"))
	if err != nil {
		return
	}
	for _, d := range dirs {
		rec, err := a.journal.Get(handoff.MoveID(d.Name()))
		if err == nil && !rec.State.Finished() || a.mayNeed(err) {
			continue
		}
		if err == nil && rec.Role == handoff.RoleTarget {
			if _, err := a.shimOf(job.ID(rec.Job)).Status(ctx); !errors.Is(err, shim.ErrGone) {
				continue
			}
		}
		if err := os.RemoveAll(a.paths.move(d.Name())); err != nil {
			a.log.Warn("old images", "dir", d.Name(), "err", err)
		}
	}
}

// mayNeed tells whether what a move of which the journal says no more has left may be of
// use still: messages of a job that is frozen are in it.
func (a *Agent) mayNeed(err error) bool {
	if err == nil || errors.Is(err, handoff.ErrUnknownMove) {
		return false
	}
	recs, broken, listErr := a.jobs.ListAll()
	anyHeld := len(broken) > 0 || listErr != nil
	for _, rec := range recs {
		held, err := (&namespaces.Cgroup{Dirs: rec.Cgroup}).SelfFreezing()
		anyHeld = anyHeld || rec.Here() && (held || err != nil)
	}
	return anyHeld || !errors.Is(err, handoff.ErrAside)
}
