package transfer

import (
	"context"
	"errors"
	"io"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/caller"
	"github.com/migrate-hpc/migrate/agent/node"
	"github.com/migrate-hpc/migrate/agent/peer"
	"github.com/migrate-hpc/migrate/agent/progress"
	"github.com/migrate-hpc/migrate/agent/source"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/preflight"
	"github.com/migrate-hpc/migrate/store"
)

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
	if req.Verify {
		s.verify = func(ctx context.Context) error { return a.verify(ctx, sealedJob{s.rec, req.Dir, s.user, s.tell}) }
	}
	res, err := s.run(ctx)
	s.tell.End(res, err, release, draft.Discard) // a file server that is away holds up this caller only
	return nil
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
	s.dep.PrepareDump(ctx)
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
	res := &api.Result{Job: s.rec.ID, Move: string(s.id), Node: s.a.Config.Node, Dir: s.req.Dir, Verified: s.req.Verify, Epoch: s.rec.Epoch}
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
	err := s.a.CheckMovable(s.rec)
	if err != nil {
		return err
	}
	if err := s.checkVerifiable(); err != nil {
		return err
	}
	s.since = node.EarliestMove(s.rec)
	if s.dep, err = s.a.Sources.JobOf(ctx, s.rec, string(s.id), s.tell); err != nil {
		return err
	}
	if s.dep.Src.Init == 0 {
		return s.a.NotRunning(ctx, s.rec)
	}
	if err := s.a.Targets.AwaitMemory(ctx, s.rec); err != nil {
		return err
	}
	if s.needs, err = s.dep.CheckLeave(ctx); err != nil {
		return err
	}
	findings, err := s.a.Arrivals.examineRestore(ctx, s.needs, s.rec)
	if err != nil {
		return err
	}
	if len(findings) > 0 {
		return unrestorable(findings)
	}
	s.rec, err = s.a.nextEpoch(s.rec.ID)
	s.dep.Rec, s.dep.Kind, s.dep.Saved, s.dep.HangUp = s.rec, handoff.KindCheckpoint, s.req.Dir, s.draft.GiveUp
	s.dep.Out = s.draft.Lanes()
	return err
}

// checkVerifiable refuses what cannot be in two copies on one node, though one of them never runs.
func (s *checkpointOp) checkVerifiable() error {
	if !s.req.Verify || !s.rec.Spec.Network.Bridged() {
		return nil
	}
	return &api.Error{Code: api.CodeRefused, Message: "a checkpoint of a job on a bridge cannot be verified on its node: both copies would have its address",
		Hint: "`migrate checkpoint` without --verify"}
}

// unrestorable refuses a checkpoint that this node, which knows the job best, could not restore.
func unrestorable(findings []preflight.Finding) error {
	told := source.AsFindings(findings)
	for i := range told {
		told[i].Cause = "a checkpoint could not be restored, not even here: " + told[i].Cause
	}
	return peer.Refused(told)
}

func (s *checkpointOp) explain(err error) error {
	var told *api.Error
	here := "on " + s.a.Config.Node + ", running"
	if ended := s.a.ended(s.rec.ID, err); ended != nil {
		return ended
	}
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
	return s.dep.AbortError(err, here, "nothing was lost; remove the cause, then `migrate checkpoint` again")
}

// nextEpoch uses up an epoch of the job, so that this attempt is told from all
// others.
func (a *Transfers) nextEpoch(id job.ID) (job.Record, error) {
	return a.Jobs.Update(id, func(r *job.Record) error {
		r.Epoch++
		return nil
	})
}
