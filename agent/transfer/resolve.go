package transfer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/migrate-hpc/migrate/logkey"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/httpjson"
	"github.com/migrate-hpc/migrate/agent/peer"
	"github.com/migrate-hpc/migrate/agent/source"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/humanize"
	"github.com/migrate-hpc/migrate/job"
)

// ResolveTime bounds the carrying out of a decision.
const ResolveTime = 2 * time.Minute

func (a *Resolver) Resolvable(ref string) (handoff.Record, error) {
	m, err := handoff.ParseMoveID(ref)
	if err != nil {
		return handoff.Record{}, MoveNotFound(ref)
	}
	rec, err := a.Journal.Get(m)
	if errors.Is(err, handoff.ErrUnknownMove) {
		return rec, MoveNotFound(ref)
	}
	if errors.Is(err, handoff.ErrDamaged) {
		return rec, &api.Error{Code: api.CodeRefused, Message: err.Error(), Where: "nobody here can tell",
			Hint: fmt.Sprintf("find out on all nodes where the job is, then `migrate resolve %s --forget`; the other node of the move decides by --take or --drop there", m)}
	}
	if err != nil {
		return rec, err
	}
	undecided := func(format string, args ...any) (handoff.Record, error) {
		return rec, &api.Error{Code: api.CodeRefused, Message: fmt.Sprintf("move %s of job %s: ", m, rec.Job) + fmt.Sprintf(format, args...),
			Where: a.whereabouts(rec), Hint: "migrate inspect " + string(m)}
	}
	switch {
	case rec.State.Finished():
		return undecided("it is over here: %s", rec.State)
	case rec.Kind != handoff.KindMove:
		return undecided("the agent finishes or undoes a checkpoint or restore by itself")
	case rec.State == handoff.StateReceiving:
		return undecided("the copy here is not whole; it is dropped when the connection breaks, and the job stays on %s", rec.Peer)
	case rec.Role == handoff.RoleSource && rec.State == handoff.StateFrozen && a.Leaving.IsActive(job.ID(rec.Job), m):
		return undecided("it is under way; Ctrl-C in the command that moves the job ends it")
	}
	return rec, nil
}

// whereabouts says where the job of a move is, as far as this node knows.
func (a *Resolver) whereabouts(rec handoff.Record) string {
	here := rec.Role == handoff.RoleSource
	switch rec.State {
	case handoff.StateAborted:
		return "on " + a.Config.Node
	case handoff.StateReleased:
		return "on " + rec.Peer
	case handoff.StateDone:
		return "on " + a.Config.Node
	case handoff.StateDropped:
		return "on " + rec.Peer
	case handoff.StateCommitted:
		if !here {
			return "on " + a.Config.Node + ", or frozen on " + rec.Peer
		}
		return "frozen on " + a.Config.Node + ", or running on " + rec.Peer
	}
	if here {
		return "frozen on " + a.Config.Node
	}
	return "on " + rec.Peer + ", or parked on " + a.Config.Node
}

// PlanOf says what a decision does and what the operator answers for.
func (a *Resolver) PlanOf(ctx context.Context, rec handoff.Record, take bool) (api.ResolvePlan, error) {
	p := api.ResolvePlan{Move: string(rec.Move), Job: job.ID(rec.Job), Node: a.Config.Node, Peer: rec.Peer, State: string(rec.State), Take: take}
	gone := rec.BootID != a.Boot
	if take && gone {
		return p, &api.Error{Code: api.CodeRefused, Message: fmt.Sprintf("there is nothing to take: %s went down since, and its copy of job %s with it", a.Config.Node, rec.Job),
			Where: a.whereabouts(rec), Hint: fmt.Sprintf("migrate resolve %s --drop, here; or --take on %s", rec.Move, rec.Peer)}
	}
	later := fmt.Sprintf("%s is told as soon as it can be reached, however late; whatever it has of the job then ends, even if it runs.", rec.Peer)
	switch {
	case rec.Role == handoff.RoleSource && take:
		p.Does = []string{fmt.Sprintf("The frozen job goes on on %s, from where it was frozen.", a.Config.Node), later}
		p.Vouch = []string{fmt.Sprintf("%s does not run the job, and has not since the move.", rec.Peer)}
	case rec.Role == handoff.RoleSource && rec.State == handoff.StateAborting:
		return p, &api.Error{Code: api.CodeRefused, Message: "the move was given up, and the job may run here already", Where: a.whereabouts(rec),
			Hint: fmt.Sprintf("migrate resolve %s --take, here or on %s", rec.Move, rec.Peer)}
	case rec.Role == handoff.RoleSource:
		p.Does = []string{fmt.Sprintf("The frozen job on %s is ended.", a.Config.Node),
			fmt.Sprintf("A copy that is parked on %s runs when that node is back.", rec.Peer)}
		p.Vouch = []string{fmt.Sprintf("%s runs the job or has it parked, or the job is not wanted any more.", rec.Peer)}
	case take:
		if st, err := a.ShimOf(p.Job).Status(ctx); err == nil && st.Absent > 0 {
			return p, &api.Error{Code: api.CodeRefused, Where: a.whereabouts(rec),
				Message: fmt.Sprintf("the copy here lacks %s of the job's memory, which only %s has", humanize.Size(st.Absent), rec.Peer),
				Hint:    fmt.Sprintf("wait until %s is back; or `migrate resolve %[2]s --take` there, or `migrate resolve %[2]s --drop` here", rec.Peer, rec.Move)}
		}
		p.Does = []string{fmt.Sprintf("The copy parked on %s runs.", a.Config.Node), later}
		p.Vouch = []string{fmt.Sprintf("The job does not run on %s, and has not since it was frozen there.", rec.Peer)}
	default:
		p.Does = []string{fmt.Sprintf("What there is of the job on %s is dropped.", a.Config.Node),
			fmt.Sprintf("The job goes on on %s, if it is frozen there, when that node is back.", rec.Peer)}
		p.Vouch = []string{fmt.Sprintf("The job has not run on %s.", a.Config.Node)}
	}
	return p, nil
}

// cannotDecide tells whether this node waits for an operator, whoever answers.
func (a *Resolver) cannotDecide(m handoff.MoveID) bool {
	rec, err := a.Journal.Get(m)
	return err == nil && rec.Role == handoff.RoleTarget && rec.State == handoff.StateCommitted && rec.BootID != a.Boot
}

// Apart makes sure that the move cannot decide itself, and says why: its other node
// does not answer, or answers that it does not know, either.
func (a *Resolver) Apart(ctx context.Context, rec handoff.Record, take bool) (why string, err error) {
	ctx, cancel := context.WithTimeout(ctx, httpjson.PeerTimeout)
	defer cancel()
	theirs, err := a.Arrivals.ClientOf(rec).FetchState(ctx)
	switch {
	case peer.IsAnswer(err):
		return fmt.Sprintf("%s answers, but cannot decide it: %v", rec.Peer, err), nil
	case err != nil:
		return fmt.Sprintf("%s does not answer: %v", rec.Peer, err), nil
	case theirs.InDoubt:
		return fmt.Sprintf("%s went down while it resumed the job, and does not know whether that ran there", rec.Peer), nil
	case a.cannotDecide(rec.Move) && !take:
		return a.Config.Node + " went down while it resumed the job, and does not know whether that ran here", nil
	}
	return "", &api.Error{Code: api.CodeRefused, Message: fmt.Sprintf("move %s: %s answers (%s there, %s here), and the agents finish it by themselves", rec.Move, rec.Peer, theirs.State, rec.State),
		Where: a.whereabouts(rec), Hint: "wait a few seconds and see `migrate moves`; if it stays, the agents' logs say why"}
}

func (a *Resolver) Resolve(ctx context.Context, rec handoff.Record, take bool) error {
	a.Log.Warn("an operator decides", logkey.Job, rec.Job, logkey.Move, rec.Move, logkey.Peer, rec.Peer, logkey.Role, rec.Role, logkey.State, rec.State, logkey.Take, take)
	if rec.Role == handoff.RoleTarget {
		return a.resolveTarget(ctx, rec, take)
	}
	s, p, err := a.Recovery.OpenSource(ctx, rec)
	if err != nil {
		return err
	}
	if d, ok := s.(*source.Job); ok {
		d.SkipPull = !take
	}
	decision := handoff.Decision{Take: take, CheckUnreachable: func(ctx context.Context) error {
		_, err := a.Apart(ctx, rec, take)
		return err
	}}
	outcome, err := a.Arrivals.engine().ResolveSource(ctx, rec.Move, s, p, decision)
	switch {
	case take && outcome == handoff.OutcomeAborted:
		a.Arrivals.tellPeer(rec.Move)
		return nil
	case !take && outcome == handoff.OutcomeMoved:
		return nil
	}
	a.Recovery.pursueLater(rec.Move) // whatever worked on it was ended
	return err
}

func (a *Resolver) resolveTarget(ctx context.Context, rec handoff.Record, take bool) error {
	if _, err := a.Apart(ctx, rec, take); err != nil {
		return err
	}
	arr := a.Arrivals.ArrivalOf(rec.Move)
	if arr == nil {
		return fmt.Errorf("move %s: the agent has no hand on it: restart the agent", rec.Move)
	}
	if err := arr.half.Resolve(ctx, take); err != nil {
		return err
	}
	if take {
		a.Arrivals.tellPeer(rec.Move)
	}
	return nil
}

// Resolved says what became of a decision.
func (a *Resolver) Resolved(m handoff.MoveID, plan api.ResolvePlan) api.ResolvePlan {
	rec, err := a.Journal.Get(m)
	if err != nil {
		return plan
	}
	plan.State, plan.Where, plan.PeerToTell = string(rec.State), a.whereabouts(rec), rec.PeerToTell
	return plan
}
