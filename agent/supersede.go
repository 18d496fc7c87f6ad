package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/namespaces"
)

// A job that was brought back past a node which was declared dead has a second copy if that node
// lives. The copy of the older line (handoff.Line) ends, as soon as its node hears of the other: it is
// told by the node that brought the job back, for as long as that takes; it asks its peers, at its
// start and from time to time; or it is offered the other copy.

// errBusy says that a copy cannot be ended before a move of it is over.
var errBusy = errors.New("it is in a move that is not finished")

// supersede ends the copy of a job that this node has, since that at by is the job.
func (a *Agent) supersede(ctx context.Context, id job.ID, by job.Moved) error {
	release, err := a.claim(id, handoff.NewMoveID())
	if err != nil {
		return fmt.Errorf("%w: %w", errBusy, err)
	}
	defer release()
	if a.unfinished(id) != "" {
		return errBusy
	}
	rec, err := a.jobs.Get(id)
	if err != nil {
		return err
	}
	if rec.Superseded == nil {
		if !rec.Here() || !handoff.Supersedes(by.Epoch, rec.Epoch) {
			return nil
		}
		a.log.Warn("a job was brought back elsewhere while this node was taken for dead; its copy here is ended", "job", id, "epoch", rec.Epoch,
			"peer", by.Node, "later", by.Epoch)
		if rec, err = a.writeSuperseded(ctx, rec, by); err != nil || rec.Superseded == nil {
			return err
		}
	}
	return a.endSuperseded(ctx, rec)
}

// writeSuperseded stops a copy for good and writes down how it ended, unless it has come to its end by
// itself.
func (a *Agent) writeSuperseded(ctx context.Context, rec job.Record, by job.Moved) (job.Record, error) {
	cg := namespaces.Cgroup{Dirs: rec.Cgroup}
	left, err := tasksOf(rec)
	if err == nil && left > 0 {
		err = freezeWithin(ctx, &cg)
	}
	if err != nil {
		return rec, err
	}
	used, _ := cg.CPUTime() // what is gone used nothing that could be told
	return a.jobs.Update(rec.ID, func(r *job.Record) error {
		if r.Exit != nil {
			return nil
		}
		r.Superseded = &by
		r.Exit = &job.Exit{Code: 128 + int(syscall.SIGKILL), Signal: int(syscall.SIGKILL), At: time.Now(), CPU: r.CPUBefore + time.Duration(used)}
		return nil
	})
}

func freezeWithin(ctx context.Context, cg *namespaces.Cgroup) error {
	ctx, cancel := context.WithTimeout(ctx, freezeTime)
	defer cancel()
	return cg.Freeze(ctx)
}

// endSuperseded ends what is left of a copy whose end is written down already: none of its tasks has
// run since.
func (a *Agent) endSuperseded(ctx context.Context, rec job.Record) error {
	d, err := a.departureOf(ctx, rec, string(handoff.NewMoveID()), nil)
	if err != nil {
		return err
	}
	d.vouched = true
	return d.Release(ctx)
}

// endSupersededAgain goes on with what could not be ended, by this agent or an earlier one.
func (a *Agent) endSupersededAgain(ctx context.Context) {
	recs, _ := a.jobs.List() // those that can be read
	for _, rec := range recs {
		if n, err := tasksOf(rec); rec.Superseded == nil || err == nil && n == 0 {
			continue
		}
		if err := a.supersede(ctx, rec.ID, *rec.Superseded); err != nil && ctx.Err() == nil {
			a.log.Error("a copy of a job that was brought back elsewhere could not be ended", "job", rec.ID, "err", err)
		}
	}
}

// answerSuperseded is told by a peer that it has brought a job back under an epoch.
func (a *Agent) answerSuperseded(r *http.Request, asker string) (any, error) {
	var req supersededRequest
	id, err := idIn(r)
	if err == nil {
		err = decode(r, &req)
	}
	if err != nil {
		return nil, err
	}
	by := job.Moved{Node: asker, Addr: callerAddr(r, req.Port), Epoch: req.Epoch, At: time.Now()}
	rec, err := a.jobs.Get(id)
	switch {
	case errors.Is(err, job.ErrNotFound):
	case err != nil:
		return nil, err
	case a.unfinished(id) != "": // it may come to nothing, here or elsewhere
		return nil, &api.Error{Code: api.CodeFailed, Message: fmt.Sprintf("job %s: %v", id, errBusy), Where: "on " + a.cfg.Node}
	case !handoff.Supersedes(req.Epoch, rec.Epoch):
		return supersededReply{Epoch: rec.Epoch}, nil
	case rec.Here() || rec.Superseded != nil:
		// Not the peer's context: half an end is worse than one too many.
		ctx, cancel := context.WithTimeout(a.life, yieldTime)
		defer cancel()
		if err := a.supersede(ctx, id, by); err != nil {
			return nil, err
		}
	}
	if err := a.fence.Learn(string(id), handoff.Grant{Epoch: by.Epoch, Node: asker, Addr: by.Addr}); err != nil {
		return nil, err
	}
	if rec.MovedTo != nil && rec.Exit == nil {
		return supersededReply{Next: asPlace(rec.MovedTo)}, nil
	}
	return supersededReply{}, nil
}

// payDebts tells the nodes that were declared dead of every restore that went past them, for as long
// as it takes.
func (a *Agent) payDebts(id job.ID) {
	a.background.Go(func() {
		for pause := firstTold; ; pause = min(2*pause, mostTold) {
			debts := a.fence.Debts()[string(id)]
			if len(debts) == 0 {
				return
			}
			for _, d := range debts {
				a.payDebt(id, d, pause == firstTold)
			}
			select {
			case <-a.life.Done():
				return
			case <-time.After(pause):
			}
		}
	})
}

func (a *Agent) payAllDebts() {
	for id := range a.fence.Debts() {
		a.payDebts(job.ID(id))
	}
}

func (a *Agent) payDebt(id job.ID, d handoff.Debt, complain bool) {
	switch a.restoreOf(id, d.Epoch) {
	case handoff.StateDropped:
		if err := a.fence.Forgive(string(id), d.Epoch); err != nil {
			a.log.Error("a restore that failed", "job", id, "epoch", d.Epoch, "err", err)
		}
		return
	case handoff.StateDone, handoff.StateNew:
	default:
		return // it may still come to nothing
	}
	for node, addr := range d.Nodes {
		if err := a.tellSuperseded(id, d.Epoch, node, addr); err != nil && complain {
			a.log.Warn("a node that was declared dead has not heard that its job was brought back", "job", id, "epoch", d.Epoch, "peer", node, "err", err)
		}
	}
}

// untold are the nodes that have yet to hear of a restore.
func (a *Agent) untold(rec handoff.Record) string {
	if rec.State != handoff.StateDone {
		return ""
	}
	for _, d := range a.fence.Debts()[rec.Job] {
		if d.Epoch == rec.Epoch {
			return strings.Join(slices.Sorted(maps.Keys(d.Nodes)), ", ")
		}
	}
	return ""
}

// restoreOf is how a restore here ended; one that the journal has forgotten is long done.
func (a *Agent) restoreOf(id job.ID, epoch int64) handoff.State {
	recs, _ := a.journal.List() // those that can be read
	i := slices.IndexFunc(recs, func(r handoff.Record) bool {
		return r.Job == string(id) && r.Epoch == epoch && r.Kind == handoff.KindRestore
	})
	if i < 0 {
		return handoff.StateNew
	}
	return recs[i].State
}

func (a *Agent) tellSuperseded(id job.ID, epoch int64, node, addr string) error {
	ctx, cancel := context.WithTimeout(a.life, yieldTime)
	defer cancel()
	var theirs supersededReply
	err := a.question(ctx, node, []string{addr}, peerPath+"/"+string(id)+"/superseded", supersededRequest{epoch, a.listenPort()}, &theirs)
	if err != nil {
		return err
	}
	a.log.Info("a node that was declared dead has heard that its job was brought back", "job", id, "epoch", epoch, "peer", node)
	if handoff.Supersedes(theirs.Epoch, epoch) { // it was this node that was taken for dead
		by := job.Moved{Node: node, Addr: addr, Epoch: theirs.Epoch, At: time.Now()}
		if err := a.supersede(ctx, id, by); err != nil && !errors.Is(err, job.ErrNotFound) {
			return err
		}
	}
	var instead []handoff.Place
	if theirs.Next != nil {
		instead = append(instead, *theirs.Next)
	}
	return a.fence.Paid(string(id), epoch, node, instead...)
}

// newer ends what this node has of a job of which a peer offers a copy that supersedes it.
func (a *Agent) newer(ctx context.Context, source, addr string, o offer) error {
	rec, err := a.jobs.Get(o.Record.ID)
	if err != nil || !rec.Here() || !handoff.Supersedes(o.Epoch, rec.Epoch) {
		return nil
	}
	if err := a.supersede(ctx, rec.ID, job.Moved{Node: source, Addr: addr, Epoch: o.Epoch, At: time.Now()}); err != nil {
		return &api.Error{Code: api.CodeFailed, Message: fmt.Sprintf("an older copy of job %s on %s could not be ended: %v", rec.ID, a.cfg.Node, err)}
	}
	return nil
}
