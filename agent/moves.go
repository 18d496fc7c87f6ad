package agent

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
)

// handleMoves lists the moves that this node has a part in: those that are not
// finished, and with all=true the others too.
func (a *Agent) handleMoves(w http.ResponseWriter, r *http.Request, c caller) error {
	all := r.URL.Query().Get("all") == "true"
	recs, err := a.journal.List()
	if err != nil {
		a.log.Error("some moves cannot be read", "err", err)
	}
	list := []api.MoveSummary{}
	seen := map[string]bool{}
	for _, rec := range recs {
		seen[string(rec.Move)] = true
		whose, known := a.whose(rec)
		if !c.root() && !(known && c.may(whose)) {
			continue
		}
		if s := a.summary(rec, whose.Spec.Name); all || !s.Finished {
			list = append(list, s)
		}
	}
	for _, d := range a.journal.Damaged() {
		seen[d.Name] = true
		if c.root() {
			list = append(list, api.MoveSummary{Move: d.Name, Job: job.ID(d.Job), Node: a.cfg.Node, State: "damaged", Since: d.Changed, WaitFor: waitsForLook(d), Note: d.Err.Error()})
		}
	}
	for _, kept := range a.records.list() {
		unfinished := a.under(kept.Job, handoff.MoveID(kept.Move))
		if seen[kept.Move] || !c.root() && kept.UID != c.uid || !all && !unfinished {
			continue
		}
		a.settleRecord(&kept)
		list = append(list, summaryOf(kept, a.cfg.Node, !unfinished))
	}
	slices.SortStableFunc(list, func(x, y api.MoveSummary) int {
		if x.Finished != y.Finished {
			return map[bool]int{false: -1, true: 1}[x.Finished]
		}
		return y.Since.Compare(x.Since)
	})
	return reply(w, list)
}

// whose is the job of a move as this node knows it: its record, or that which came
// ahead of it.
func (a *Agent) whose(rec handoff.Record) (job.Record, bool) {
	if r, err := a.jobs.Get(job.ID(rec.Job)); err == nil {
		return r, true
	}
	if r, err := newLanding(a, string(rec.Move), job.ID(rec.Job)).record(); err == nil {
		return r, true
	}
	if kept, err := a.records.get(rec.Move); err == nil {
		return job.Record{ID: kept.Job, Spec: job.Spec{Name: kept.Name, UID: kept.UID}}, true
	}
	return job.Record{}, false
}

// under tells whether this agent works on a move for its user just now.
func (a *Agent) under(id job.ID, m handoff.MoveID) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	active, ok := a.moves[id]
	return ok && active.id == m
}

func (a *Agent) summary(rec handoff.Record, name string) api.MoveSummary {
	s := api.MoveSummary{Move: string(rec.Move), Job: job.ID(rec.Job), Name: name, Node: a.cfg.Node, Role: string(rec.Role), Peer: rec.Peer,
		Epoch: rec.Epoch, State: string(rec.State), Since: rec.At, Finished: rec.State.Finished() && !rec.PeerToTell, WaitFor: a.waitsFor(rec), Note: rec.Note}
	if rec.Kind == handoff.KindMove {
		return s
	}
	if x, err := extraOf(rec); err == nil {
		s.Peer, s.Role, s.Finished = x.Dir, string(rec.Kind), s.Finished && a.untold(rec) == ""
	}
	return s
}

// summaryOf is a move that never got as far as a journal.
func summaryOf(r api.MoveRecord, node string, finished bool) api.MoveSummary {
	s := api.MoveSummary{Move: r.Move, Job: r.Job, Name: r.Name, Node: node, Role: string(handoff.RoleSource), Peer: r.To,
		Epoch: r.Epoch, State: string(r.State), Since: r.Began.Add(r.Took), Finished: finished}
	if r.Error != nil {
		s.Note = r.Error.Message
	}
	return s
}

// waitsFor says what an unfinished move needs to go on, and what to type if that
// will not come.
func (a *Agent) waitsFor(rec handoff.Record) string {
	decide := func(words string) string {
		return fmt.Sprintf("; if that is gone for good: `migrate resolve %s %s`", rec.Move, words)
	}
	switch {
	case a.untold(rec) != "":
		return a.untold(rec) + " to hear that the job was brought back here"
	case rec.PeerToTell:
		return rec.Peer + " to hear that the job was taken here"
	case rec.State.Finished():
		return ""
	case rec.Role == handoff.RoleSource && rec.State != handoff.StateCommitted && a.under(job.ID(rec.Job), rec.Move):
		return "nothing: it is under way"
	case rec.Kind != handoff.KindMove:
		return "nothing: the agent finishes or undoes it"
	case rec.State == handoff.StateReceiving:
		return "the job's state, from " + rec.Peer
	case rec.State == handoff.StatePrepared:
		return "the decision of " + rec.Peer + decide("--take|--drop")
	case rec.Role == handoff.RoleTarget && rec.BootID != a.boot:
		return fmt.Sprintf("an operator: this node went down while it resumed the job; if it did not run here: `migrate resolve %s --drop`", rec.Move)
	case rec.Role == handoff.RoleTarget:
		return "the word of " + rec.Peer + decide("--take|--drop")
	case rec.State == handoff.StateCommitted:
		return rec.Peer + " to run the job" + decide("--take|--drop")
	case rec.BootID != a.boot:
		return rec.Peer + " to say whether it has the job" + decide("--drop")
	}
	return rec.Peer + " to drop its copy" + decide("--take")
}

func moveNotFound(ref string) error {
	return &api.Error{Code: api.CodeNotFound, Message: "no move " + ref + " is known on this node",
		Hint: "`migrate moves --all` lists the moves that this node knows; ask on the node that the job left"}
}

// handleMoveRecord tells all about one move. The source has the record; what has
// none asks the source, and other nodes that jobs of the caller's went to.
func (a *Agent) handleMoveRecord(w http.ResponseWriter, r *http.Request, c caller) error {
	m, err := handoff.ParseMoveID(r.PathValue("move"))
	if err != nil {
		return moveNotFound(r.PathValue("move"))
	}
	hops := hopsOf(r)
	rec, err := a.moveRecord(r.Context(), m, c, hops)
	if err != nil {
		return err
	}
	return reply(w, rec)
}

func (a *Agent) moveRecord(ctx context.Context, m handoff.MoveID, c caller, hops int) (api.MoveRecord, error) {
	kept, err := a.records.get(m)
	if err == nil {
		if !c.root() && c.uid != kept.UID {
			return api.MoveRecord{}, moveNotFound(string(m))
		}
		a.settleRecord(&kept)
		return kept, nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		a.log.Warn("the record of a move cannot be read", "move", m, "err", err)
	}
	rec, err := a.journal.Get(m)
	if err != nil {
		return a.recordElsewhere(ctx, m, c, hops)
	}
	whose, known := a.whose(rec)
	if !c.root() && !(known && c.may(whose)) {
		return api.MoveRecord{}, moveNotFound(string(m))
	}
	mine := a.fromJournal(rec, whose)
	if rec.Role == handoff.RoleSource || rec.Kind != handoff.KindMove || hops > 0 {
		return mine, nil
	}
	theirs, err := a.askMove(ctx, m, job.Moved{Node: rec.Peer, Addr: rec.PeerAddr}, c, hops)
	if err != nil {
		mine.Partial = fmt.Sprintf("%s, which keeps the record, does not answer: %v", rec.Peer, err)
		return mine, nil
	}
	theirs.Steps = append(theirs.Steps, mine.Steps...)
	slices.SortStableFunc(theirs.Steps, func(x, y api.MoveStep) int { return x.At.Compare(y.At) })
	theirs.WaitFor = orElse(theirs.WaitFor, mine.WaitFor)
	return theirs, nil
}

// settleRecord brings a record that the end of an agent has cut short up to what
// the journal says.
func (a *Agent) settleRecord(r *api.MoveRecord) {
	m := handoff.MoveID(r.Move)
	r.Steps = a.steps(m)
	if r.State != api.MoveUnderWay && r.State != api.MoveWaiting || a.under(r.Job, m) {
		return
	}
	rec, err := a.journal.Get(m)
	switch {
	case errors.Is(err, handoff.ErrUnknownMove):
		r.State = api.MoveAborted
		r.Error = &api.Error{Code: api.CodeAborted, Message: "the agent of " + a.cfg.Node + " ended during the warm-up; the job was not touched", Where: "on " + a.cfg.Node}
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

func (a *Agent) stateOf(rec handoff.Record) api.MoveState {
	switch rec.State {
	case handoff.StateReleased, handoff.StateDone:
		return api.MoveDone
	case handoff.StateAborted:
		return api.MoveAborted
	case handoff.StateDropped:
		return api.MoveAborted
	}
	if a.under(job.ID(rec.Job), rec.Move) {
		return api.MoveUnderWay
	}
	return api.MoveWaiting
}

// steps is the move's history in this node's journal.
func (a *Agent) steps(m handoff.MoveID) []api.MoveStep {
	var steps []api.MoveStep
	history, _ := a.journal.History(m) // what can be read
	for _, h := range history {
		steps = append(steps, api.MoveStep{Node: a.cfg.Node, Role: string(h.Role), State: string(h.State), At: h.At, Note: h.Note})
	}
	return steps
}

// fromJournal is what a journal alone has to say about a move.
func (a *Agent) fromJournal(rec handoff.Record, whose job.Record) api.MoveRecord {
	r := api.MoveRecord{Move: string(rec.Move), Job: job.ID(rec.Job), Name: whose.Spec.Name, UID: whose.Spec.UID, From: a.cfg.Node, To: rec.Peer,
		Epoch: rec.Epoch, State: a.stateOf(rec), Steps: a.steps(rec.Move), WaitFor: a.waitsFor(rec), Partial: "only the journal knows of it"}
	if rec.Role == handoff.RoleTarget {
		r.From, r.To = rec.Peer, a.cfg.Node
	}
	switch x, err := extraOf(rec); {
	case rec.Kind == handoff.KindCheckpoint && err == nil:
		r.From, r.To = a.cfg.Node, x.Dir
	case rec.Kind == handoff.KindRestore && err == nil:
		r.From, r.To = x.Dir, a.cfg.Node
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
func (a *Agent) recordElsewhere(ctx context.Context, m handoff.MoveID, c caller, hops int) (api.MoveRecord, error) {
	if hops > 0 {
		return api.MoveRecord{}, moveNotFound(string(m))
	}
	recs, _ := a.jobs.List() // those that can be read
	asked := map[string]bool{}
	for _, rec := range recs {
		if rec.MovedTo == nil || !c.may(rec) || asked[rec.MovedTo.Node] || len(asked) == maxAsked {
			continue
		}
		asked[rec.MovedTo.Node] = true
		if found, err := a.askMove(ctx, m, *rec.MovedTo, c, hops); err == nil {
			return found, nil
		}
	}
	return api.MoveRecord{}, moveNotFound(string(m))
}
