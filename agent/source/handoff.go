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

func (d *Job) Freeze(ctx context.Context) error {
	d.tell.Enter(api.PhaseFreeze, "")
	d.Frozen = time.Now()
	ctx, cancel := context.WithTimeout(ctx, FreezeTime)
	defer cancel()
	if err := d.freeze(ctx); err != nil {
		return err
	}
	if err := d.holdsNoKeys(); err != nil {
		return err
	}
	return d.Unthrottle() // what CRIU does in the job's tasks must not be slow
}

// errKeys may come after the preflight, as long as the job runs.
var errKeys = errors.New("the job has keys in its session keyring, which no checkpoint can carry")

func (d *Job) holdsNoKeys() error {
	n, err := osthread.KeyringsWithKeys(string(d.Rec.ID))
	if err == nil && n > 0 {
		err = errKeys
	}
	return err
}

func (d *Job) freeze(ctx context.Context) error {
	open, err := d.A.FreezeLocks.Shut(ctx, d.Rec.ID)
	if err != nil {
		return err
	}
	defer open()
	return d.Src.Freeze(ctx)
}

const FreezeTime = 20 * time.Second

func (d *Job) Transfer(ctx context.Context) error {
	d.tell.Enter(api.PhaseDump, "")
	release := context.AfterFunc(ctx, d.HangUp) // a blocked write does not see the end of ctx
	defer release()
	if _, err := d.Src.Dump(ctx, d.Out); err != nil {
		if kept := d.A.KeepLog(d.Src.DumpLog(), filepath.Base(d.dir)+"-dump.log"); kept != "" {
			return fmt.Errorf("save the job: %w (all of CRIU's log: %s)", err, kept)
		}
		return fmt.Errorf("save the job: %w", err)
	}
	d.tell.Enter(api.PhaseResidue, "")
	if err := d.send(ctx); err != nil {
		return err
	}
	if d.PostCopy { // also what CRIU touches while it restores
		d.beginPull()
	}
	d.tell.Enter(api.PhasePark, "")
	return nil
}

func (d *Job) StillFrozen(ctx context.Context) error {
	d.tell.Enter(api.PhaseCommit, "")
	if err := d.Sending.wait(ctx); err != nil {
		return err
	}
	return d.Src.StillFrozen(ctx)
}

func (d *Job) Thaw(ctx context.Context) error {
	d.tell.Enter(api.PhaseAbort, "")
	d.Sending.giveUp() // close waits for its end: the job does not stand still for a file server
	d.endPull()
	err := errors.Join(d.Unthrottle(), d.Src.Thaw(ctx))
	d.Thawed = time.Now()
	if err != nil {
		return err // the next try must know of a CRIU that still holds the job
	}
	return os.RemoveAll(d.dir)
}

// Release ends the job's copy here, once the target has every page of it. The record
// says where the job is before the frozen tree is gone, so that nobody can be told that
// it was lost.
func (d *Job) Release(ctx context.Context) error {
	d.Sending.end()
	if err := d.recordLeft(); err != nil {
		return err
	}
	if d.Kind == handoff.KindMove && !d.Vouched {
		if err := d.awaitPull(ctx); err != nil {
			return fmt.Errorf("memory is still being pulled by %s: %w", d.To.Node, err)
		}
	}
	d.tell.Enter(api.PhaseRelease, "")
	if err := d.A.Awake(d.Rec); err != nil { // what is frozen ends in its time
		return err
	}
	if err := d.A.ShimOf(d.Rec.ID).Release(ctx); err != nil && !errors.Is(err, shim.ErrGone) {
		return err
	}
	if err := d.A.AwaitShimGone(ctx, d.Rec.ID); err != nil {
		return err
	}
	var err error
	if d.Kind == handoff.KindMove {
		err = os.RemoveAll(d.A.IODir(d.Rec.ID)) // it went with the job
	}
	// A shim that was killed has freed nothing.
	return errors.Join(err, d.A.Sweep(ctx, d.Rec), os.RemoveAll(d.dir))
}

func (d *Job) recordLeft() error {
	_, err := d.A.Jobs.Update(d.Rec.ID, func(r *job.Record) error {
		r.MovedTo, r.SavedIn = d.To, d.Saved
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
func (a *Sources) EndCopy(ctx context.Context, rec job.Record, move string, from node.Origin) error {
	d, err := a.JobOf(ctx, rec, move, nil)
	if err != nil {
		return err
	}
	d.Kind, d.To, d.Saved = from.Kind, from.To, from.Saved
	return Ending{d}.Release(ctx)
}

// Ending is a departure of a job that may run, and that is wanted no more: the peer is
// not asked what it lacks.
type Ending struct{ *Job }

func (e Ending) Release(ctx context.Context) error {
	e.Vouched = true
	rec, err := e.A.Jobs.Get(e.Rec.ID)
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
