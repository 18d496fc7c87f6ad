package transfer

import (
	"context"
	"errors"
	"fmt"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/node"
	"github.com/migrate-hpc/migrate/agent/progress"
	"github.com/migrate-hpc/migrate/agent/target"
	"github.com/migrate-hpc/migrate/exactjson"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/osthread"
	"github.com/migrate-hpc/migrate/store"
	"github.com/migrate-hpc/migrate/timens"
)

// sealedJob is a checkpoint of a job that is frozen here.
type sealedJob struct {
	rec  job.Record
	dir  string
	user osthread.User // of the caller
	tell *progress.Progress
}

// verify restores the checkpoint that was just sealed, as far as a job is restored before it runs, and
// drops what it has restored. The job itself is frozen meanwhile. The copy has another id, so that it
// has directories, a cgroup and a shim of its own; a journal has the next agent drop it, too.
func (a *Transfers) verify(ctx context.Context, s sealedJob) error {
	s.tell.Enter(api.PhasePark, "restoring the checkpoint, to see that it can be")
	b := &restoreOp{a: a, req: api.RestoreRequest{Dir: s.dir}, mode: timens.Continuous, id: handoff.NewMoveID(), tell: s.tell}
	defer b.close()
	if err := a.openSealed(s, b); err != nil {
		return err
	}
	extra, err := node.Saving{Checkpoint: store.Ref{Name: s.dir}}.Extra()
	if err != nil {
		return err
	}
	l := target.NewJob(a.Targets, string(b.id), b.rec.ID)
	l.Recorded = b.manifest.Recorded()
	rec := handoff.Record{Move: b.id, Kind: handoff.KindRestore, Job: string(b.rec.ID), Peer: a.Config.Node, Epoch: b.rec.Epoch, BootID: a.Boot, Extra: extra, Since: b.rec.Created}
	half := a.Arrivals.engine().NewTarget(rec, l)
	if err := half.Begin(ctx); err != nil {
		return err
	}
	err = b.fetch(ctx, l)
	if err == nil {
		err = half.Prepare(ctx)
	}
	if !half.State().Finished() {
		undo, cancel := context.WithTimeout(a.Life, undoRestoreTime)
		defer cancel()
		err = errors.Join(err, half.Abort(undo))
	}
	if forgetErr := a.Fence.Forget(string(b.rec.ID)); err == nil {
		err = forgetErr
	}
	if err != nil {
		return fmt.Errorf("the checkpoint cannot be restored: %w", err)
	}
	return nil
}

// openSealed opens the checkpoint as a restore does, and gives the copy its id.
func (a *Transfers) openSealed(s sealedJob, b *restoreOp) (err error) {
	if b.saved, err = a.Store.Open(s.dir, s.user); err != nil {
		return err
	}
	if b.manifest, err = b.saved.Manifest(a.Identity.Verify); err != nil {
		return err
	}
	if err := exactjson.Unmarshal(b.manifest.Job, &b.cargo); err != nil {
		return err
	}
	if b.rec = b.cargo.Record; b.rec.ID != s.rec.ID || b.rec.Epoch != s.rec.Epoch { // its user may have put another one there
		return fmt.Errorf("%s has job %s, epoch %d, in it", s.dir, b.rec.ID, b.rec.Epoch)
	}
	b.rec.ID = job.NewID()
	return nil
}
