package target

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/migrate-hpc/migrate/logkey"

	"github.com/migrate-hpc/migrate/agent/caller"
	"github.com/migrate-hpc/migrate/agent/launch"
	"github.com/migrate-hpc/migrate/agent/node"
	"github.com/migrate-hpc/migrate/durable"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/namespaces"
	"github.com/migrate-hpc/migrate/namespaces/cgroup"
	"github.com/migrate-hpc/migrate/restore"
	"github.com/migrate-hpc/migrate/shim"
)

// What becomes of a copy that is parked.

// StillParked asks the shim. That none answers proves that the copy is gone, and
// that it never ran unless the shim says so.
func (l *Job) StillParked(ctx context.Context) error {
	st, err := l.a.ShimOf(l.Job).Status(ctx)
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
func (l *Job) Resume(ctx context.Context) error {
	if err := l.Publish(); err != nil {
		return err
	}
	_, err := l.a.ShimOf(l.Job).Resume(ctx)
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
func (l *Job) gaveUp(ctx context.Context) bool {
	st, err := l.a.ShimOf(l.Job).Status(ctx)
	return errors.Is(err, shim.ErrGone) || err == nil && st.State == shim.Dropped
}

// ran tells whether a copy whose shim is gone was ever let run. A shim stays until it
// has written down how its job ended; one that was killed has left its mark. A record
// that cannot be read proves nothing.
func (l *Job) ran() (bool, error) {
	rec, err := l.a.Jobs.Get(l.Job)
	if err != nil && !errors.Is(err, job.ErrNotFound) {
		return false, err
	}
	if err == nil && rec.FromMove == l.move && rec.Exit != nil {
		return true, nil
	}
	if _, err := os.Lstat(l.a.Paths.JobRun(l.Job)); err == nil {
		return l.a.ShimOf(l.Job).Resumed(), nil
	}
	copied, err := l.Record()
	if errors.Is(err, os.ErrNotExist) {
		copied, err = rec, nil // published, or dropped
	}
	if err != nil {
		return false, err
	}
	n, err := node.TasksOf(copied)
	if n > 0 { // the directory with the mark is lost
		err = fmt.Errorf("no shim answers for the copy, but %d of its tasks live: nobody knows whether it has run", n)
	}
	return false, err
}

// Publish makes the job known as one of this node's. Doing it again changes
// nothing.
func (l *Job) Publish() error {
	if known, err := l.a.Jobs.Get(l.Job); err == nil && known.FromMove == l.move {
		return l.settleFiles()
	}
	rec, err := l.Record()
	if err != nil {
		return err
	}
	rec.FromMove, rec.MovedTo, rec.Exit, rec.SavedIn = l.move, nil, nil, ""
	rec.Placements = append(rec.Placements, job.Placement{Node: l.a.Config.Node, From: time.Now(), Epoch: rec.Epoch})
	err = l.a.Jobs.Create(rec)
	if errors.Is(err, job.ErrExists) { // it was here before
		_, err = l.a.Jobs.Update(l.Job, func(r *job.Record) error {
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
func (l *Job) settleFiles() error {
	to := l.a.IODir(l.Job)
	if _, err := os.Stat(l.IODir()); err == nil {
		if err := os.RemoveAll(to); err != nil {
			return err
		}
		//house:allow os.Rename: of a directory, which is synced below
		if err := os.Rename(l.IODir(), to); err != nil {
			return err
		}
	} else if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	// The shim goes on writing to its log under whatever name.
	//house:allow os.Rename: a log, and the directory is synced below
	err := os.Rename(filepath.Join(l.Dir(), shim.LogName), filepath.Join(filepath.Dir(to), shim.LogName))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := durable.SyncDir(filepath.Dir(to)); err != nil {
		return err
	}
	return os.RemoveAll(l.Dir())
}

// Drop ends a copy that has not run and frees what was received.
func (l *Job) Drop(ctx context.Context) error {
	l.stop()
	known, err := l.a.Jobs.Get(l.Job)
	published := err == nil && known.Here()
	if published && known.FromMove != l.move {
		return nil // the job that lives here is not this copy
	}
	if err := l.a.ShimOf(l.Job).Drop(ctx); err != nil {
		return err
	}
	if err := l.a.AwaitShimGone(ctx, l.Job); err != nil {
		return err
	}
	rec, err := l.Record()
	if published {
		rec, err = known, l.retract()
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	rec.ID = l.Job
	if err := l.putBack(ctx, rec); err != nil {
		return err
	}
	if err := l.a.Sweep(ctx, rec); err != nil { // a shim that was killed has freed nothing
		return err
	}
	if l.In != nil {
		_ = l.In.Store.Close() // its files go next
		_ = l.In.CloseMounts() // so does the last that holds them
	}
	return errors.Join(os.RemoveAll(l.Memory()), os.RemoveAll(l.Dir()))
}

// putBack gives the names of Unix sockets back that a shim which was killed has put aside.
func (l *Job) putBack(ctx context.Context, rec job.Record) error {
	if cg := (cgroup.Cgroup{Dirs: rec.Cgroup}); cg.FreezerDir() != "" { // also the CRIU that it had started
		if err := cg.Kill(ctx); err != nil {
			return err
		}
	}
	plan := restore.Plan{Work: l.work(), Mounts: launch.ExternalMounts(rec, l.IODir(), nil), RestoreEnv: namespaces.RestoreEnv{Root: rec.Spec.Root, User: caller.OwnerOf(rec.Spec).User()}}
	if err := plan.Recover(); err != nil { // who owns the directory must not hold up the end of the copy
		l.a.Log.Error("names of the job's Unix sockets lead nowhere", logkey.Job, l.Job, logkey.Move, l.move, logkey.Err, err, logkey.Try, "rename .NAME.migrate-was")
	}
	return nil
}

// retract takes back that the job is one of this node's: the copy was published,
// and turned out to be gone before it ran. The job is where it came from.
func (l *Job) retract() error {
	from, err := l.origin()
	if err != nil {
		return err
	}
	if err := os.RemoveAll(l.a.IODir(l.Job)); err != nil {
		return err
	}
	_, err = l.a.Jobs.Update(l.Job, func(r *job.Record) error {
		r.MovedTo, r.SavedIn = from.To, from.Saved
		if n := len(r.Placements); from.Kind == handoff.KindRestore && n > 1 { // under the epoch of this restore nothing has run
			r.Placements = r.Placements[:n-1]
			r.Epoch = r.Placements[n-2].Epoch
		}
		return nil
	})
	return err
}

// End ends whatever this node has of a copy that may have run.
func (l *Job) End(ctx context.Context) error {
	rec, err := l.a.Jobs.Get(l.Job)
	mine := err == nil && rec.FromMove == l.move && rec.Here()
	if st, err := l.a.ShimOf(l.Job).Status(ctx); !mine || err != nil || st.State != shim.Running {
		return l.Drop(ctx)
	}
	from, err := l.origin()
	if err != nil {
		return err
	}
	if err := l.a.EndRunning(ctx, rec, l.move, from); err != nil {
		return err
	}
	return os.RemoveAll(l.Dir())
}

func (l *Job) origin() (node.Origin, error) {
	rec, err := l.a.Journal.Get(handoff.MoveID(l.move))
	if err != nil {
		return node.Origin{}, err
	}
	if rec.Kind == handoff.KindMove {
		return node.Origin{Kind: rec.Kind, To: &job.Moved{Node: rec.Peer, Addr: rec.PeerAddr, Epoch: rec.Epoch, At: time.Now()}}, nil
	}
	s, err := node.SavingOf(rec)
	return node.Origin{Kind: rec.Kind, Saved: s.Checkpoint.Name}, err
}
