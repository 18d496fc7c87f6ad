package transfer

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"time"

	"github.com/migrate-hpc/migrate/logkey"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/caller"
	"github.com/migrate-hpc/migrate/agent/node"
	"github.com/migrate-hpc/migrate/agent/progress"
	"github.com/migrate-hpc/migrate/agent/source"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/osthread"
	"github.com/migrate-hpc/migrate/preflight"
	"github.com/migrate-hpc/migrate/store"
)

// cargo is what a checkpoint says about the job in it.
type cargo struct {
	Record job.Record      `json:"record"`
	Needs  preflight.Needs `json:"needs"`
}

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
	tell  *progress.Progress
	dep   *source.Job
	needs preflight.Needs
	since time.Time // see handoff.Record

	recovering bool // its handler has ended, with the agent or before
}

// Checkpoint saves a job where the caller may. begun is as for Move.
func (a *Transfers) Checkpoint(ctx context.Context, c caller.Caller, rec job.Record, req api.CheckpointRequest, begun func() io.Writer) error {
	move := handoff.NewMoveID()
	release, err := a.Leaving.Claim(rec.ID, move)
	if err != nil {
		return err
	}
	defer release()
	draft, err := a.Store.Create(req.Dir, string(move), c.User())
	if errors.Is(err, store.ErrName) {
		return &api.Error{Code: api.CodeUsage, Message: err.Error(), Hint: "`migrate checkpoint JOB DIR` makes an absolute path of DIR by itself"}
	}
	if err != nil {
		return &api.Error{Code: api.CodeFailed, Message: "the directory of the checkpoint cannot be made: " + err.Error(), Where: "on " + a.Config.Node + ", running", Hint: "name a directory that does not exist yet, in one that you may write to: `migrate checkpoint JOB DIR`"}
	}
	defer draft.Discard()
	s := &checkpointOp{a: a, rec: rec, req: req, id: move, user: c.User(), draft: draft, undo: draft.Remove}
	s.tell = progress.New(begun(), rec.ID, string(move), s.sizes)
	res, err := s.run(ctx)
	s.tell.End(res, err, release, draft.Discard) // a file server that is away holds up this caller only
	return nil
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

func (s *checkpointOp) run(ctx context.Context) (*api.Result, error) {
	s.tell.Enter(api.PhasePreflight, "")
	err := s.prepare(ctx)
	if s.dep != nil {
		defer s.dep.Close()
		defer s.draft.GiveUp() // nothing waits for its place
	}
	if err != nil {
		return nil, s.explain(err)
	}
	s.dep.GetReady(ctx)
	ref, err := s.draft.Ref()
	if err != nil {
		return nil, err
	}
	extra, err := node.Saving{Checkpoint: ref, LeaveRunning: s.req.LeaveRunning, User: s.user}.Extra()
	if err != nil {
		return nil, err
	}
	rec := handoff.Record{Move: s.id, Kind: handoff.KindCheckpoint, Job: string(s.rec.ID), Peer: s.a.Config.Node, Epoch: s.rec.Epoch, BootID: s.a.Boot, Extra: extra, Since: s.since}
	defer s.a.Priority.Urgent()()
	outcome, err := s.a.Arrivals.engine().RunSource(ctx, rec, intoStore{s.dep, s.draft}, s)
	res := &api.Result{Job: s.rec.ID, Move: string(s.id), Node: s.a.Config.Node, Dir: s.req.Dir, Epoch: s.rec.Epoch}
	if outcome != handoff.OutcomeMoved {
		s.a.Recovery.pursueLater(s.id)
	}
	switch {
	case errors.Is(err, errLeftRunning) && outcome == handoff.OutcomeAborted:
		res.Downtime = s.dep.Downtime()
		return res, nil
	case outcome == handoff.OutcomeMoved:
		res.Downtime = s.dep.Downtime()
		return res, nil
	case outcome == handoff.OutcomeUnclean:
		res.CleanupLeft = err.Error()
		return res, nil
	case outcome == handoff.OutcomeInDoubt:
		return nil, source.WithDiagnosis(&api.Error{Code: api.CodeInDoubt, Message: err.Error(), Where: "frozen on " + s.a.Config.Node,
			Hint: "nothing is lost: the agent goes on by itself; `migrate ps` tells how it ended"}, err)
	}
	return nil, s.explain(err)
}

func (s *checkpointOp) prepare(ctx context.Context) error {
	err := s.a.MayBegin(s.rec)
	if err != nil {
		return err
	}
	s.since = node.UntouchedUntil(s.rec)
	if s.dep, err = s.a.Sources.JobOf(ctx, s.rec, string(s.id), s.tell); err != nil {
		return err
	}
	if s.dep.Src.Init == 0 {
		return s.a.NotRunning(ctx, s.rec)
	}
	if err := s.a.Targets.AwaitWhole(ctx, s.rec); err != nil {
		return err
	}
	if s.needs, err = s.dep.MayLeave(ctx); err != nil {
		return err
	}
	s.rec, err = s.a.nextEpoch(s.rec.ID)
	s.dep.Rec, s.dep.Kind, s.dep.Saved, s.dep.HangUp = s.rec, handoff.KindCheckpoint, s.req.Dir, s.draft.GiveUp
	s.dep.Out = s.draft.Lanes()
	return err
}

// intoStore is the job on its way into a checkpoint.
type intoStore struct {
	*source.Job
	draft store.Draft
}

func (i intoStore) Transfer(ctx context.Context) error {
	i.draft.Shut() // the journal knows of it by now
	return i.Job.Transfer(ctx)
}

// Prepare completes the checkpoint: it is whole, or it is not there. That it is goes into
// the job's record, which nobody but root writes.
func (s *checkpointOp) Prepare(context.Context) error {
	body, err := json.Marshal(cargo{s.dep.Traveller(), s.needs})
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

func (s *checkpointOp) explain(err error) error {
	var told *api.Error
	here := "on " + s.a.Config.Node + ", running"
	if errors.As(err, &told) {
		if told.Where == "" {
			told.Where = here
		}
		if len(told.Findings) > 0 {
			told.Message = "preflight refused the checkpoint"
		}
		return told
	}
	if errors.Is(err, context.Canceled) {
		return &api.Error{Code: api.CodeCancelled, Message: "cancelled; nothing was saved", Where: here}
	}
	return s.dep.Aborted(err, here, "nothing was lost; remove the cause, then `migrate checkpoint` again")
}

// nextEpoch uses up an epoch of the job, so that this attempt is told from all
// others.
func (a *Transfers) nextEpoch(id job.ID) (job.Record, error) {
	return a.Jobs.Update(id, func(r *job.Record) error {
		r.Epoch++
		return nil
	})
}
