package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/migrate-hpc/migrate/durable"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/namespaces"
	"github.com/migrate-hpc/migrate/restore"
	"github.com/migrate-hpc/migrate/shim"
)

// What becomes of a copy that is parked.

// StillParked asks the shim. That none answers proves that the copy is gone, and
// that it never ran unless the shim says so.
func (l *landing) StillParked(ctx context.Context) error {
	st, err := l.a.shimOf(l.job).Status(ctx)
	switch {
	case errors.Is(err, shim.ErrGone):
		ran, asked := l.ran()
		switch {
		case asked != nil:
			return asked
		case ran:
			return fmt.Errorf("%w: %w", handoff.ErrRuns, err)
		}
		return fmt.Errorf("%w: %w", handoff.ErrGone, err)
	case err != nil:
		return err
	case st.State == shim.Running || st.State == shim.Exited:
		return handoff.ErrRuns
	case st.State != shim.Parked:
		return fmt.Errorf("the copy is %s, not parked", st.State)
	}
	return nil
}

// Resume lets the copy run. Its record comes first: from its first instruction
// on the job may end, and its shim then writes that down.
func (l *landing) Resume(ctx context.Context) error {
	if err := l.publish(); err != nil {
		return err
	}
	_, err := l.a.shimOf(l.job).Resume(ctx)
	if err == nil || !errors.Is(err, shim.ErrGone) && !l.gaveUp(ctx) {
		return err
	}
	ran, asked := l.ran()
	if asked != nil {
		return asked
	}
	if ran {
		return nil // and is over already
	}
	return fmt.Errorf("%w: %w", handoff.ErrGone, err)
}

// gaveUp tells whether a shim that could not let its job run has dropped it.
func (l *landing) gaveUp(ctx context.Context) bool {
	st, err := l.a.shimOf(l.job).Status(ctx)
	return errors.Is(err, shim.ErrGone) || err == nil && st.State == shim.Dropped
}

// ran tells whether a copy whose shim is gone was ever let run. A shim stays until it
// has written down how its job ended; one that was killed has left its mark. A record
// that cannot be read proves nothing.
func (l *landing) ran() (bool, error) {
	rec, err := l.a.jobs.Get(l.job)
	if err != nil && !errors.Is(err, job.ErrNotFound) {
		return false, err
	}
	if err == nil && rec.FromMove == l.move && rec.Exit != nil {
		return true, nil
	}
	if _, err := os.Lstat(l.a.paths.jobRun(l.job)); err == nil {
		return l.a.shimOf(l.job).Resumed(), nil
	}
	copied, err := l.record()
	if errors.Is(err, os.ErrNotExist) {
		copied, err = rec, nil // published, or dropped
	}
	if err != nil {
		return false, err
	}
	n, err := tasksOf(copied)
	if n > 0 { // the directory with the mark is lost
		err = fmt.Errorf("no shim answers for the copy, but %d of its tasks live: nobody knows whether it has run", n)
	}
	return false, err
}

// publish makes the job known as one of this node's. Doing it again changes
// nothing.
func (l *landing) publish() error {
	if known, err := l.a.jobs.Get(l.job); err == nil && known.FromMove == l.move {
		return l.settleFiles()
	}
	rec, err := l.record()
	if err != nil {
		return err
	}
	rec.FromMove, rec.MovedTo, rec.Exit, rec.SavedIn = l.move, nil, nil, ""
	rec.Placements = append(rec.Placements, job.Placement{Node: l.a.cfg.Node, From: time.Now(), Epoch: rec.Epoch})
	err = l.a.jobs.Create(rec)
	if errors.Is(err, job.ErrExists) { // it was here before
		_, err = l.a.jobs.Update(l.job, func(r *job.Record) error {
			*r = rec
			return nil
		})
	}
	if err != nil {
		return err
	}
	return l.settleFiles()
}

// settleFiles moves output and log to the job's directory. The directory that
// the job has mounted stays the same one under its new name. What an earlier try has
// done is done; all that is left of it follows.
func (l *landing) settleFiles() error {
	to := l.a.ioDir(l.job)
	if _, err := os.Stat(l.ioDir()); err == nil {
		if err := os.RemoveAll(to); err != nil {
			return err
		}
		//house:allow os.Rename: of a directory, which is synced below
		if err := os.Rename(l.ioDir(), to); err != nil {
			return err
		}
	} else if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	// The shim goes on writing to its log under whatever name.
	//house:allow os.Rename: a log, and the directory is synced below
	err := os.Rename(filepath.Join(l.dir(), shim.LogName), filepath.Join(filepath.Dir(to), shim.LogName))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := durable.SyncDir(filepath.Dir(to)); err != nil {
		return err
	}
	return os.RemoveAll(l.dir())
}

// Drop ends a copy that has not run and frees what was received.
func (l *landing) Drop(ctx context.Context) error {
	l.stop()
	known, err := l.a.jobs.Get(l.job)
	published := err == nil && known.Here()
	if published && known.FromMove != l.move {
		return nil // the job that lives here is not this copy
	}
	if err := l.a.shimOf(l.job).Drop(ctx); err != nil {
		return err
	}
	if err := l.a.awaitShimGone(ctx, l.job); err != nil {
		return err
	}
	rec, err := l.record()
	if published {
		rec, err = known, l.retract()
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	rec.ID = l.job
	if err := l.putBack(ctx, rec); err != nil {
		return err
	}
	if err := l.a.sweep(ctx, rec); err != nil { // a shim that was killed has freed nothing
		return err
	}
	if l.in != nil {
		_ = l.in.Store.Close()        // its files go next
		_ = l.in.ClosePrivateMounts() // so does the last that holds them
	}
	return errors.Join(os.RemoveAll(l.memory()), os.RemoveAll(l.dir()))
}

// putBack gives the names of Unix sockets back that a shim which was killed has put aside.
func (l *landing) putBack(ctx context.Context, rec job.Record) error {
	if cg := (namespaces.Cgroup{Dirs: rec.Cgroup}); cg.FreezerDir() != "" { // also the CRIU that it had started
		if err := cg.Kill(ctx); err != nil {
			return err
		}
	}
	plan := restore.Plan{Work: l.work(), Mounts: externalMounts(rec, l.ioDir(), "", nil), RestoreEnv: namespaces.RestoreEnv{Root: rec.Spec.Root, User: ownerOf(rec.Spec).user()}}
	if err := plan.UndoSocketNames(); err != nil { // who owns the directory must not hold up the end of the copy
		l.a.log.Error("names of the job's Unix sockets lead nowhere", "job", l.job, "move", l.move, "err", err, "try", "rename .NAME.migrate-was")
	}
	return nil
}

// retract takes back that the job is one of this node's: the copy was published,
// and turned out to be gone before it ran. The job is where it came from.
func (l *landing) retract() error {
	from, err := l.origin()
	if err != nil {
		return err
	}
	if err := os.RemoveAll(l.a.ioDir(l.job)); err != nil {
		return err
	}
	_, err = l.a.jobs.Update(l.job, func(r *job.Record) error {
		r.MovedTo, r.SavedIn = from.to, from.saved
		if n := len(r.Placements); from.kind == handoff.KindRestore && n > 1 { // under the epoch of this restore nothing has run
			r.Placements = r.Placements[:n-1]
			r.Epoch = r.Placements[n-2].Epoch
		}
		return nil
	})
	return err
}
