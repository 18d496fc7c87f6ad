package target

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/migrate-hpc/migrate/agent/caller"
	"github.com/migrate-hpc/migrate/agent/launch"
	"github.com/migrate-hpc/migrate/agent/node"
	"github.com/migrate-hpc/migrate/durable"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/logkey"
	"github.com/migrate-hpc/migrate/namespaces"
	"github.com/migrate-hpc/migrate/namespaces/cgroup"
	"github.com/migrate-hpc/migrate/restore"
	"github.com/migrate-hpc/migrate/shim"
)

// The end of a parked copy: it resumes, or is dropped.

// StillParked asks the shim. If there is none, the copy is gone, and never ran unless the shim has
// left its mark.
func (j *Job) StillParked(ctx context.Context) error {
	st, err := j.targets.ShimOf(j.ID).Status(ctx)
	switch {
	case errors.Is(err, shim.ErrGone):
		ran, asked := j.hasRun()
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

// Resume lets the copy run. It publishes the record first: the job may end with its first
// instruction, and its shim then writes that down.
func (j *Job) Resume(ctx context.Context) error {
	if err := j.Publish(); err != nil {
		return err
	}
	_, err := j.targets.ShimOf(j.ID).Resume(ctx)
	if err == nil || !errors.Is(err, shim.ErrGone) && !j.shimDropped(ctx) {
		return err
	}
	ran, asked := j.hasRun()
	if asked != nil {
		return asked
	}
	if ran {
		return nil // and has ended already
	}
	return fmt.Errorf("%w: %w", handoff.ErrGone, err)
}

// shimDropped tells whether the shim could not resume its job and has dropped it.
func (j *Job) shimDropped(ctx context.Context) bool {
	st, err := j.targets.ShimOf(j.ID).Status(ctx)
	return errors.Is(err, shim.ErrGone) || err == nil && st.State == shim.Dropped
}

// hasRun tells whether a copy whose shim has ended was ever resumed. A shim stays until it has
// written down how its job ended; a killed one has left its mark. An unreadable record proves
// nothing.
func (j *Job) hasRun() (bool, error) {
	rec, err := j.targets.Jobs.Get(j.ID)
	if err != nil && !errors.Is(err, job.ErrNotFound) {
		return false, err
	}
	if err == nil && rec.FromMove == j.move && rec.Exit != nil {
		return true, nil
	}
	if _, err := os.Lstat(j.targets.Paths.JobRun(j.ID)); err == nil {
		return j.targets.ShimOf(j.ID).Resumed(), nil
	}
	copied, err := j.Record()
	if errors.Is(err, os.ErrNotExist) {
		copied, err = rec, nil // published, or dropped
	}
	if err != nil {
		return false, err
	}
	n, err := node.CountTasks(copied)
	if n > 0 { // the directory with the mark is lost
		err = fmt.Errorf("no shim answers for the copy, but %d of its tasks live: nobody knows whether it has run", n)
	}
	return false, err
}

// Publish makes the copy's record that of a job of this node. A second call changes nothing.
func (j *Job) Publish() error {
	if known, err := j.targets.Jobs.Get(j.ID); err == nil && known.FromMove == j.move {
		return j.moveFiles()
	}
	rec, err := j.Record()
	if err != nil {
		return err
	}
	rec.FromMove, rec.MovedTo, rec.Exit, rec.SavedIn = j.move, nil, nil, ""
	rec.Placements = append(rec.Placements, job.Placement{Node: j.targets.Config.Node, From: time.Now(), Epoch: rec.Epoch})
	err = j.targets.Jobs.Create(rec)
	if errors.Is(err, job.ErrExists) { // it was here before
		_, err = j.targets.Jobs.Update(j.ID, func(r *job.Record) error {
			*r = rec
			return nil
		})
	}
	if err != nil {
		return err
	}
	return j.moveFiles()
}

// moveFiles moves output and log to the job's directory. The directory that the job has mounted
// stays the same one under its new name. It goes on where an earlier try ended.
func (j *Job) moveFiles() error {
	to := j.targets.IODir(j.ID)
	if _, err := os.Stat(j.IODir()); err == nil {
		if err := os.RemoveAll(to); err != nil {
			return err
		}
		//house:allow os.Rename: of a directory, which is synced below
		if err := os.Rename(j.IODir(), to); err != nil {
			return err
		}
	} else if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	// The shim goes on writing to its log under the new name.
	//house:allow os.Rename: a log, and the directory is synced below
	err := os.Rename(filepath.Join(j.Dir(), shim.LogName), filepath.Join(filepath.Dir(to), shim.LogName))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := durable.SyncDir(filepath.Dir(to)); err != nil {
		return err
	}
	return os.RemoveAll(j.Dir())
}

// Drop ends a copy that has not run, and frees what the node received.
func (j *Job) Drop(ctx context.Context) error {
	j.stop()
	known, err := j.targets.Jobs.Get(j.ID)
	published := err == nil && known.Here()
	if published && known.FromMove != j.move {
		return nil // the job that lives here is not this copy
	}
	if err := j.targets.ShimOf(j.ID).Drop(ctx); err != nil {
		return err
	}
	if err := j.targets.AwaitShimExit(ctx, j.ID); err != nil {
		return err
	}
	rec, err := j.Record()
	if published {
		rec, err = known, j.unpublish()
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	rec.ID = j.ID
	if err := j.restoreSocketNames(ctx, rec); err != nil {
		return err
	}
	if err := j.targets.RemoveLeftovers(ctx, rec); err != nil { // a shim that was killed has freed nothing
		return err
	}
	if j.Receiver != nil {
		_ = j.Receiver.Store.Close() // its files go next
		_ = j.Receiver.CloseMounts() // so does the last that holds them
	}
	return errors.Join(os.RemoveAll(j.Memory()), os.RemoveAll(j.Dir()))
}

// restoreSocketNames restores names of Unix sockets that a killed shim had set aside.
func (j *Job) restoreSocketNames(ctx context.Context, rec job.Record) error {
	if cg := (cgroup.Cgroup{Dirs: rec.Cgroup}); cg.FreezerDir() != "" { // also the CRIU that it had started
		if err := cg.Kill(ctx); err != nil {
			return err
		}
	}
	plan := restore.Plan{Work: j.work(), Mounts: launch.ExternalMounts(rec, j.IODir(), nil), RestoreEnv: namespaces.RestoreEnv{Root: rec.Spec.Root, User: caller.OwnerOf(rec.Spec).User()}}
	if err := plan.Recover(); err != nil { // who owns the directory must not hold up the end of the copy
		j.targets.Log.Error("names of the job's Unix sockets lead nowhere", logkey.Job, j.ID, logkey.Move, j.move, logkey.Err, err, logkey.Try, "rename .NAME.migrate-was")
	}
	return nil
}

// unpublish undoes Publish for a copy that turned out to be gone before it ran: the record points
// to where the job came from.
func (j *Job) unpublish() error {
	from, err := j.origin()
	if err != nil {
		return err
	}
	if err := os.RemoveAll(j.targets.IODir(j.ID)); err != nil {
		return err
	}
	_, err = j.targets.Jobs.Update(j.ID, func(r *job.Record) error {
		r.MovedTo, r.SavedIn = from.To, from.Saved
		if n := len(r.Placements); from.Kind == handoff.KindRestore && n > 1 { // under the epoch of this restore nothing has run
			r.Placements = r.Placements[:n-1]
			r.Epoch = r.Placements[n-2].Epoch
		}
		return nil
	})
	return err
}

// End ends all that this node has of a copy that may have run.
func (j *Job) End(ctx context.Context) error {
	rec, err := j.targets.Jobs.Get(j.ID)
	mine := err == nil && rec.FromMove == j.move && rec.Here()
	if st, err := j.targets.ShimOf(j.ID).Status(ctx); !mine || err != nil || st.State != shim.Running {
		return j.Drop(ctx)
	}
	from, err := j.origin()
	if err != nil {
		return err
	}
	if err := j.targets.EndRunning(ctx, rec, j.move, from); err != nil {
		return err
	}
	return os.RemoveAll(j.Dir())
}

func (j *Job) origin() (node.Origin, error) {
	rec, err := j.targets.Journal.Get(handoff.MoveID(j.move))
	if err != nil {
		return node.Origin{}, err
	}
	if rec.Kind == handoff.KindMove {
		return node.Origin{Kind: rec.Kind, To: &job.Moved{Node: rec.Peer, Addr: rec.PeerAddr, Epoch: rec.Epoch, At: time.Now()}}, nil
	}
	s, err := node.SavingOf(rec)
	return node.Origin{Kind: rec.Kind, Saved: s.Checkpoint.Name}, err
}
