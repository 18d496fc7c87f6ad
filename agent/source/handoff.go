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

// Freeze freezes the job, within FreezeTime, once signals under way have arrived. It fails if the job
// has keys in its session keyring.
func (j *Job) Freeze(ctx context.Context) error {
	if err := j.Src.Look(ctx); err != nil {
		return err
	}
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
	if err := j.checkNews(ctx); err != nil {
		return err
	}
	return j.Unthrottle() // CRIU runs code in the job's tasks during the downtime
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

// FreezeTime bounds a freeze.
const FreezeTime = 20 * time.Second

// StepTime bounds a step of the downtime that takes a part of it: a few times the forecast for the
// whole, and what a busy node may need.
func (j *Job) StepTime() time.Duration {
	forecast := j.Forecast
	if forecast == 0 { // no round has measured anything
		forecast = time.Duration(float64(j.Total) / slowest * float64(time.Second))
	}
	return leastStep + 5*forecast
}

const (
	leastStep = 30 * time.Second // as the target gives it
	slowest   = 100 << 20        // bytes per second that any node and network manage
)

// Transfer dumps the job and sends what the target needs to restore it. To a node, the rest of its
// memory follows in the background.
func (j *Job) Transfer(ctx context.Context) error {
	j.progress.Enter(api.PhaseDump, "")
	release := context.AfterFunc(ctx, j.HangUp) // a blocked write does not see the end of ctx
	defer release()
	if err := j.dump(ctx); err != nil {
		if kept := j.sources.SaveCRIULog(j.Src.DumpLog(), filepath.Base(j.dir)+"-dump.log"); kept != "" {
			return fmt.Errorf("save the job: %w (all of CRIU's log: %s)", err, kept)
		}
		return fmt.Errorf("save the job: %w", err)
	}
	j.progress.Enter(api.PhaseResidue, "")
	if err := j.send(ctx); err != nil {
		return err
	}
	if j.PostCopy { // CRIU touches missing pages while it restores
		j.beginPull()
	}
	j.progress.Enter(api.PhasePark, "")
	return nil
}

// dump cancels nothing when it succeeds: what reads the frozen memory goes on until all is sent.
func (j *Job) dump(ctx context.Context) error {
	ctx, giveUp := context.WithCancelCause(ctx)
	refused := j.askNews(ctx, giveUp)
	_, err := j.Src.Dump(ctx, j.Out)
	if err != nil {
		giveUp(err)
	}
	if why := refused(); why != nil && (err == nil || errors.Is(context.Cause(ctx), why)) {
		return why
	}
	return err
}

// StillFrozen waits until all is sent, and then asks the kernel whether every task is frozen.
func (j *Job) StillFrozen(ctx context.Context) error {
	j.progress.Enter(api.PhaseCommit, "")
	if err := j.Sending.wait(ctx); err != nil {
		return err
	}
	return j.Src.StillFrozen(ctx)
}

// Thaw gives up the transfer and lets the job run here again, at full speed.
func (j *Job) Thaw(ctx context.Context) error {
	j.progress.Enter(api.PhaseAbort, "")
	j.Sending.stop() // Close waits for its end: the job does not stay frozen for a file server
	j.endPull()
	err := errors.Join(j.Unthrottle(), j.Src.Thaw(ctx))
	j.Thawed = time.Now()
	if err != nil {
		return err // the next try must know of a CRIU that still holds the job
	}
	return os.RemoveAll(j.dir)
}

// Release ends the job's copy here, once the target has every page of it. The record names the
// target before the frozen tree is gone, so that the job never looks lost.
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
	if err := j.sources.CheckNotSuspended(j.Rec); err != nil { // a shim that is frozen with its job cannot answer
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
		return nil // its user has removed it meanwhile
	}
	return err
}

// EndCopy ends a copy that runs here and is not the job any more; from is where its record points
// then.
func (s *Sources) EndCopy(ctx context.Context, rec job.Record, move string, from node.Origin) error {
	d, err := s.JobOf(ctx, rec, move, nil)
	if err != nil {
		return err
	}
	d.Kind, d.To, d.Saved = from.Kind, from.To, from.Saved
	return EndingJob{d}.Release(ctx)
}

// EndingJob is a Job whose copy here is not the job any more, and may run. Its Release asks the peer
// for no missing pages.
type EndingJob struct{ *Job }

// Release stops the copy, unless the job has exited here, and frees it.
func (e EndingJob) Release(ctx context.Context) error {
	e.SkipPull = true
	rec, err := e.sources.Jobs.Get(e.Rec.ID)
	if err == nil && rec.Exit != nil {
		return os.RemoveAll(e.dir) // it has exited here
	}
	if e.Src.Init != 0 {
		if err := e.Src.Stop(ctx); err != nil {
			return err
		}
	}
	return e.Job.Release(ctx)
}
