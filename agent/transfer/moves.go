package transfer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/migrate-hpc/migrate/logkey"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/caller"
	"github.com/migrate-hpc/migrate/agent/node"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
)

// Whose is the job of a move as this node knows it: its record, or that which came
// ahead of it.
func (a *History) Whose(rec handoff.Record) (job.Record, bool) {
	if r, err := a.Jobs.Get(job.ID(rec.Job)); err == nil {
		return r, true
	}
	if r, err := a.IncomingRecord(string(rec.Move)); err == nil {
		return r, true
	}
	if kept, err := a.Records.Get(rec.Move); err == nil {
		return job.Record{ID: kept.Job, Spec: job.Spec{Name: kept.Name, UID: kept.UID}}, true
	}
	return job.Record{}, false
}

func (a *History) Summary(rec handoff.Record, name string) api.MoveSummary {
	s := api.MoveSummary{Move: string(rec.Move), Job: job.ID(rec.Job), Name: name, Node: a.Config.Node, Role: string(rec.Role), Peer: rec.Peer,
		Epoch: rec.Epoch, State: string(rec.State), Since: rec.At, Finished: rec.State.Finished() && !rec.PeerToTell, WaitFor: a.waitsFor(rec), Note: rec.Note}
	if rec.Kind == handoff.KindMove {
		return s
	}
	if x, err := node.SavingOf(rec); err == nil {
		s.Peer, s.Role, s.Finished = x.Checkpoint.Name, string(rec.Kind), s.Finished && a.Copies.PeersToTell(rec) == ""
	}
	return s
}

// SummaryOf is a move that never got as far as a journal.
func SummaryOf(r api.MoveRecord, node string, finished bool) api.MoveSummary {
	s := api.MoveSummary{Move: r.Move, Job: r.Job, Name: r.Name, Node: node, Role: string(handoff.RoleSource), Peer: r.To,
		Epoch: r.Epoch, State: string(r.State), Since: r.Began.Add(r.Took), Finished: finished}
	if r.Error != nil {
		s.Note = r.Error.Message
	}
	return s
}

// waitsFor says what an unfinished move needs to go on, and what to type if that
// will not come.
func (a *History) waitsFor(rec handoff.Record) string {
	decide := func(words string) string {
		return fmt.Sprintf("; if that is gone for good: `migrate resolve %s %s`", rec.Move, words)
	}
	switch {
	case a.Copies.PeersToTell(rec) != "":
		return a.Copies.PeersToTell(rec) + " to hear that the job was brought back here"
	case rec.PeerToTell:
		return rec.Peer + " to hear that the job was taken here"
	case rec.State.Finished():
		return ""
	case rec.Role == handoff.RoleSource && rec.State != handoff.StateCommitted && a.Leaving.IsActive(job.ID(rec.Job), rec.Move):
		return "nothing: it is under way"
	case rec.Kind != handoff.KindMove:
		return "nothing: the agent finishes or undoes it"
	case rec.State == handoff.StateReceiving:
		return "the job's state, from " + rec.Peer
	case rec.State == handoff.StatePrepared:
		return "the decision of " + rec.Peer + decide("--take|--drop")
	case rec.Role == handoff.RoleTarget && rec.BootID != a.Boot:
		return fmt.Sprintf("an operator: this node went down while it resumed the job; if it did not run here: `migrate resolve %s --drop`", rec.Move)
	case rec.Role == handoff.RoleTarget:
		return "the word of " + rec.Peer + decide("--take|--drop")
	case rec.State == handoff.StateCommitted:
		return rec.Peer + " to run the job" + decide("--take|--drop")
	case rec.BootID != a.Boot:
		return rec.Peer + " to say whether it has the job" + decide("--drop")
	}
	return rec.Peer + " to drop its copy" + decide("--take")
}

func MoveNotFound(ref string) error {
	return &api.Error{Code: api.CodeNotFound, Message: "no move " + ref + " is known on this node",
		Hint: "`migrate moves --all` lists the moves that this node knows; ask on the node that the job left"}
}

func (a *History) MoveRecord(ctx context.Context, m handoff.MoveID, c caller.Caller, hops int) (api.MoveRecord, error) {
	kept, err := a.Records.Get(m)
	if err == nil {
		if !c.Root() && c.UID != kept.UID {
			return api.MoveRecord{}, MoveNotFound(string(m))
		}
		a.SettleRecord(&kept)
		return kept, nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		a.Log.Warn("the record of a move cannot be read", logkey.Move, m, logkey.Err, err)
	}
	rec, err := a.Journal.Get(m)
	if err != nil {
		return a.recordElsewhere(ctx, m, c, hops)
	}
	whose, known := a.Whose(rec)
	if !c.Root() && !(known && c.CanAccess(whose)) {
		return api.MoveRecord{}, MoveNotFound(string(m))
	}
	mine := a.fromJournal(rec, whose)
	if rec.Role == handoff.RoleSource || rec.Kind != handoff.KindMove || hops > 0 {
		return mine, nil
	}
	theirs, err := a.Peers.AskMove(ctx, m, job.Moved{Node: rec.Peer, Addr: rec.PeerAddr}, c, hops)
	if err != nil {
		mine.Partial = fmt.Sprintf("%s, which keeps the record, does not answer: %v", rec.Peer, err)
		return mine, nil
	}
	theirs.Steps = append(theirs.Steps, mine.Steps...)
	slices.SortStableFunc(theirs.Steps, func(x, y api.MoveStep) int { return x.At.Compare(y.At) })
	theirs.WaitFor = cmp.Or(theirs.WaitFor, mine.WaitFor)
	return theirs, nil
}

// SettleRecord brings a record that the end of an agent has cut short up to what
// the journal says.
func (a *History) SettleRecord(r *api.MoveRecord) {
	m := handoff.MoveID(r.Move)
	r.Steps = a.steps(m)
	if r.State != api.MoveUnderWay && r.State != api.MoveWaiting || a.Leaving.IsActive(r.Job, m) {
		return
	}
	rec, err := a.Journal.Get(m)
	switch {
	case errors.Is(err, handoff.ErrUnknownMove):
		r.State = api.MoveAborted
		r.Error = &api.Error{Code: api.CodeAborted, Message: "the agent of " + a.Config.Node + " ended during the warm-up; the job was not touched", Where: "on " + a.Config.Node}
	case err != nil:
		r.WaitFor = err.Error()
	default:
		r.State, r.WaitFor = a.stateOf(rec), a.waitsFor(rec)
		if r.State != api.MoveWaiting && r.Error == nil && rec.Note != "" {
			r.Error = &api.Error{Code: api.CodeFailed, Message: rec.Note}
		}
		if r.State == api.MoveDone {
			r.Error = nil // it was in doubt once
		}
	}
}

func (a *History) stateOf(rec handoff.Record) api.MoveState {
	switch rec.State {
	case handoff.StateReleased, handoff.StateDone:
		return api.MoveDone
	case handoff.StateAborted:
		return api.MoveAborted
	case handoff.StateDropped:
		return api.MoveAborted
	}
	if a.Leaving.IsActive(job.ID(rec.Job), rec.Move) {
		return api.MoveUnderWay
	}
	return api.MoveWaiting
}

// steps is the move's history in this node's journal.
func (a *History) steps(m handoff.MoveID) []api.MoveStep {
	var steps []api.MoveStep
	history, _ := a.Journal.History(m) // what can be read
	for _, h := range history {
		steps = append(steps, api.MoveStep{Node: a.Config.Node, Role: string(h.Role), State: string(h.State), At: h.At, Note: h.Note})
	}
	return steps
}

// fromJournal is what a journal alone has to say about a move.
func (a *History) fromJournal(rec handoff.Record, whose job.Record) api.MoveRecord {
	r := api.MoveRecord{Move: string(rec.Move), Job: job.ID(rec.Job), Name: whose.Spec.Name, UID: whose.Spec.UID, From: a.Config.Node, To: rec.Peer,
		Epoch: rec.Epoch, State: a.stateOf(rec), Steps: a.steps(rec.Move), WaitFor: a.waitsFor(rec), Partial: "only the journal knows of it"}
	if rec.Role == handoff.RoleTarget {
		r.From, r.To = rec.Peer, a.Config.Node
	}
	switch x, err := node.SavingOf(rec); {
	case rec.Kind == handoff.KindCheckpoint && err == nil:
		r.From, r.To = a.Config.Node, x.Checkpoint.Name
	case rec.Kind == handoff.KindRestore && err == nil:
		r.From, r.To = x.Checkpoint.Name, a.Config.Node
	}
	if n := len(r.Steps); n > 0 {
		r.Began, r.Took = r.Steps[0].At, r.Steps[n-1].At.Sub(r.Steps[0].At)
	}
	if rec.Note != "" {
		r.Error = &api.Error{Code: api.CodeFailed, Message: rec.Note}
	}
	return r
}

// maxAsked bounds how many nodes are asked about a move that this one has no part in.
const maxAsked = 16

// recordElsewhere looks for a move on the nodes that jobs of the caller's have
// moved to: a command for such a job is answered there, and so is the move.
func (a *History) recordElsewhere(ctx context.Context, m handoff.MoveID, c caller.Caller, hops int) (api.MoveRecord, error) {
	if hops > 0 {
		return api.MoveRecord{}, MoveNotFound(string(m))
	}
	recs, _ := a.Jobs.List() // those that can be read
	asked := map[string]bool{}
	for _, rec := range recs {
		if rec.MovedTo == nil || !c.CanAccess(rec) || asked[rec.MovedTo.Node] || len(asked) == maxAsked {
			continue
		}
		asked[rec.MovedTo.Node] = true
		if found, err := a.Peers.AskMove(ctx, m, *rec.MovedTo, c, hops); err == nil {
			return found, nil
		}
	}
	return api.MoveRecord{}, MoveNotFound(string(m))
}
