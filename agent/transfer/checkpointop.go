package transfer

import (
	"context"
	"errors"
	"time"

	"github.com/migrate-hpc/migrate/exactjson"
	"github.com/migrate-hpc/migrate/logkey"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/node"
	"github.com/migrate-hpc/migrate/agent/progress"
	"github.com/migrate-hpc/migrate/agent/source"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/osthread"
	"github.com/migrate-hpc/migrate/preflight"
	"github.com/migrate-hpc/migrate/store"
)

// errLeftRunning ends a checkpoint whose job goes on: for the handoff that is a
// move given up at the last moment, and the way back is the same.
var errLeftRunning = errors.New("saved; the job goes on")

// checkpointOp is one checkpoint of a job. It is a move whose peer is the store.
type checkpointOp struct {
	a     *Transfers
	rec   job.Record
	req   api.CheckpointRequest
	id    handoff.MoveID
	user  osthread.User
	draft store.Draft  // nil in recovery
	undo  func() error // takes the checkpoint back; see store.Draft
	// verify sees that what is sealed can be restored; nil = nobody asked for that.
	verify func(context.Context) error
	tell   *progress.Progress
	dep    *source.Job
	needs  preflight.Needs
	since  time.Time // see handoff.Record

	recovering bool // its handler has ended, with the agent or before
}

// checkpointAgain is a checkpoint that an earlier agent has begun, or whose handler has ended.
func (a *Transfers) checkpointAgain(rec handoff.Record, record job.Record, x node.Saving) *checkpointOp {
	undo := func() error { return a.Store.Remove(x.Checkpoint, string(rec.Move), x.User) }
	req := api.CheckpointRequest{Dir: x.Checkpoint.Name, LeaveRunning: x.LeaveRunning}
	return &checkpointOp{a: a, rec: record, req: req, id: rec.Move, user: x.User, undo: undo, recovering: true}
}

func (s *checkpointOp) sizes(e *api.Event) {
	if s.dep != nil {
		e.Read, e.Total = s.dep.Read.Load(), s.dep.Total
	}
	e.Sent = s.draft.Written()
}

// intoStore is the job on its way into a checkpoint.
type intoStore struct {
	*source.Job
	draft store.Draft
}

// Prepare completes the checkpoint: it is whole, or it is not there. That it is goes into
// the job's record, which nobody but root writes.
func (s *checkpointOp) Prepare(ctx context.Context) error {
	body, err := exactjson.Marshal(cargo{s.dep.RecordAtFreeze(), s.needs})
	if err != nil {
		return err
	}
	m := store.Manifest{Job: body, Node: s.a.Config.Node, Epoch: s.rec.Epoch, Clock: s.dep.Src.Clock()}
	if m.Kernel, err = node.KernelRelease(); err != nil {
		return err
	}
	m.CRIU = s.needs.CRIU
	if err := s.draft.Seal(m, s.a.Identity.Sign); err != nil {
		return err
	}
	if s.verify != nil {
		if err := s.verify(ctx); err != nil {
			return errors.Join(err, s.undo())
		}
	}
	_, err = s.a.Jobs.Update(s.rec.ID, func(r *job.Record) error {
		r.Sealed = string(s.id)
		return nil
	})
	if err != nil {
		return err
	}
	if s.req.LeaveRunning {
		return errLeftRunning
	}
	return nil
}

// Commit has nothing to do: the checkpoint is durable.
func (s *checkpointOp) Commit(context.Context) error { return nil }

// Abort takes back a checkpoint that the job has not left for. When the agent has
// started again meanwhile, the job goes on even if that fails.
func (s *checkpointOp) Abort(context.Context) error {
	if s.req.LeaveRunning && !s.recovering { // its handler does it
		return nil
	}
	if whole, err := s.whole(); err == nil && whole && s.req.LeaveRunning {
		return nil
	}
	err := s.undo()
	if err != nil && s.recovering {
		s.a.Log.Warn("a checkpoint that was given up stays", logkey.Dir, s.req.Dir, logkey.Err, err)
		return nil
	}
	return err
}

// Yield has nothing to do: an operator does not decide about a checkpoint.
func (s *checkpointOp) Yield(context.Context) error { return nil }

// Outcome is asked for after the node went down in a checkpoint. What lies in the store
// by now is its user's to change, and says nothing: a checkpoint that was whole and durable
// has the job, like any that its user loses later.
func (s *checkpointOp) Outcome(context.Context) (handoff.State, error) {
	whole, err := s.whole()
	switch {
	case err != nil:
		return "", err
	case whole:
		return handoff.StatePrepared, nil
	}
	return handoff.StateDropped, nil
}

// whole asks root's own record.
func (s *checkpointOp) whole() (bool, error) {
	rec, err := s.a.Jobs.Get(s.rec.ID)
	if errors.Is(err, job.ErrNotFound) {
		return false, nil
	}
	return err == nil && rec.Sealed == string(s.id) && s.id != "", err
}

func (i intoStore) Transfer(ctx context.Context) error {
	i.draft.Shut() // the journal knows of it by now
	return i.Job.Transfer(ctx)
}
