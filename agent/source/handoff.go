package source

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/node"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/osthread"
	"github.com/migrate-hpc/migrate/shim"
)

func (j *Job) Freeze(ctx context.Context) error {
	j.progress.Enter(api.PhaseFreeze, "")
	j.Frozen = time.Now()
	ctx, cancel := context.WithTimeout(ctx, FreezeTime)
	defer cancel()
	if err := j.freeze(ctx); err != nil {
		return err
	}
	if err := j.checkKeyrings(); err != nil {
		return err
	}
	return j.Unthrottle() // what CRIU does in the job's tasks must not be slow
}

// errKeys may come after the preflight, as long as the job runs.
var errKeys = errors.New("the job has keys in its session keyring, which no checkpoint can carry")

func (j *Job) checkKeyrings() error {
	n, err := osthread.KeyringsWithKeys(string(j.Rec.ID))
	if err == nil && n > 0 {
		err = errKeys
	}
	return err
}

func (j *Job) freeze(ctx context.Context) error {
	open, err := j.sources.FreezeLocks.LockExclusive(ctx, j.Rec.ID)
	if err != nil {
		return err
	}
	defer open()
	return j.Src.Freeze(ctx)
}

const FreezeTime = 20 * time.Second

func (j *Job) Transfer(ctx context.Context) error {
	j.progress.Enter(api.PhaseDump, "")
	release := context.AfterFunc(ctx, j.HangUp) // a blocked write does not see the end of ctx
	defer release()
	if _, err := j.Src.Dump(ctx, j.Out); err != nil {
		if kept := j.sources.SaveCRIULog(j.Src.DumpLog(), filepath.Base(j.dir)+"-dump.log"); kept != "" {
			return fmt.Errorf("save the job: %w (all of CRIU's log: %s)", err, kept)
		}
		return fmt.Errorf("save the job: %w", err)
	}
	j.progress.Enter(api.PhaseResidue, "")
	if err := j.send(ctx); err != nil {
		return err
	}
	if j.PostCopy { // also what CRIU touches while it restores
		j.beginPull()
	}
	j.progress.Enter(api.PhasePark, "")
	return nil
}

func (j *Job) StillFrozen(ctx context.Context) error {
	j.progress.Enter(api.PhaseCommit, "")
	if err := j.Sending.wait(ctx); err != nil {
		return err
	}
	return j.Src.StillFrozen(ctx)
}

func (j *Job) Thaw(ctx context.Context) error {
	j.progress.Enter(api.PhaseAbort, "")
	j.Sending.stop() // close waits for its end: the job does not stand still for a file server
	j.endPull()
	err := errors.Join(j.Unthrottle(), j.Src.Thaw(ctx))
	j.Thawed = time.Now()
	if err != nil {
		return err // the next try must know of a CRIU that still holds the job
	}
	return os.RemoveAll(j.dir)
}

// Release ends the job's copy here, once the target has every page of it. The record
// says where the job is before the frozen tree is gone, so that nobody can be told that
// it was lost.
func (j *Job) Release(ctx context.Context) error {
	j.Sending.end()
	if err := j.recordLeft(); err != nil {
		return err
	}
	if j.Kind == handoff.KindMove && !j.SkipPull {
		if err := j.awaitPull(ctx); err != nil {
			return fmt.Errorf("memory is still being pulled by %s: %w", j.To.Node, err)
		}
	}
	j.progress.Enter(api.PhaseRelease, "")
	if err := j.sources.CheckNotSuspended(j.Rec); err != nil { // what is frozen ends in its time
		return err
	}
	if err := j.sources.ShimOf(j.Rec.ID).Release(ctx); err != nil && !errors.Is(err, shim.ErrGone) {
		return err
	}
	if err := j.sources.AwaitShimExit(ctx, j.Rec.ID); err != nil {
		return err
	}
	var err error
	if j.Kind == handoff.KindMove {
		err = os.RemoveAll(j.sources.IODir(j.Rec.ID)) // it went with the job
	}
	// A shim that was killed has freed nothing.
	return errors.Join(err, j.sources.RemoveLeftovers(ctx, j.Rec), os.RemoveAll(j.dir))
}

func (j *Job) recordLeft() error {
	_, err := j.sources.Jobs.Update(j.Rec.ID, func(r *job.Record) error {
		r.MovedTo, r.SavedIn = j.To, j.Saved
		if n := len(r.Placements); n > 0 && r.Placements[n-1].To.IsZero() {
			r.Placements[n-1].To = time.Now()
		}
		return nil
	})
	if errors.Is(err, job.ErrNotFound) {
		return nil // forgotten by its user meanwhile
	}
	return err
}

// EndCopy ends a copy that runs here and is wanted no more.
func (s *Sources) EndCopy(ctx context.Context, rec job.Record, move string, from node.Origin) error {
	d, err := s.JobOf(ctx, rec, move, nil)
	if err != nil {
		return err
	}
	d.Kind, d.To, d.Saved = from.Kind, from.To, from.Saved
	return EndingJob{d}.Release(ctx)
}

// EndingJob is a departure of a job that may run, and that is wanted no more: the peer is
// not asked what it lacks.
type EndingJob struct{ *Job }

func (e EndingJob) Release(ctx context.Context) error {
	e.SkipPull = true
	rec, err := e.sources.Jobs.Get(e.Rec.ID)
	if err == nil && rec.Exit != nil {
		return os.RemoveAll(e.dir) // it came to its end here
	}
	if e.Src.Init != 0 {
		if err := e.Src.Stop(ctx); err != nil {
			return err
		}
	}
	return e.Job.Release(ctx)
}
