package transfer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/migrate-hpc/migrate/logkey"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/caller"
	"github.com/migrate-hpc/migrate/agent/copies"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/transport/pki"
)

// Whether a job may be brought back from a checkpoint: the nodes decide that together. What lies
// beside what is sealed is its user's to write, and can only add nodes to be asked.

// CheckDead says who may declare a node dead. Nobody can find out that a node which does not answer
// does not run the job. So whoever says it can get two copies, and the older one ended when the node
// is back: that is for the operator to answer for, not for the job's user, who would only have to pull
// a job's node off the network, or wait until it is.
func CheckDead(nodes []string, c caller.Caller) error {
	if len(nodes) > 0 && !c.Root() {
		return &api.Error{Code: api.CodeForbidden, Message: "only root declares a node dead", Hint: "ask the operator, who finds out whether the node is down and types `migrate restore --declared-dead NODE`"}
	}
	for _, node := range nodes {
		if err := pki.CheckNodeName(node); err != nil {
			return &api.Error{Code: api.CodeUsage, Message: "--declared-dead: " + err.Error()}
		}
	}
	return nil
}

// inquire asks everybody who may know whether the job lives.
func (b *restoreOp) inquire(ctx context.Context) error {
	b.a.Copies.CatchUp(ctx)
	claims, err := b.saved.Claims()
	if err != nil {
		return &api.Error{Code: api.CodeRefused, Message: err.Error(), Where: b.whereSaved()}
	}
	start := []handoff.Place{{Node: b.a.Config.Node}, {Node: b.manifest.Node}}
	for _, s := range b.rec.Placements {
		start = append(start, handoff.Place{Node: s.Node})
	}
	for _, claim := range claims {
		if err := pki.CheckNodeName(claim.Node); err != nil {
			return &api.Error{Code: api.CodeRefused, Message: fmt.Sprintf("a claim in %s: %v", b.req.Dir, err), Where: b.whereSaved()}
		}
		start = append(start, handoff.Place{Node: claim.Node, Addr: claim.Addr})
		b.lastClaim = max(b.lastClaim, claim.Epoch)
	}
	var peers []handoff.Place
	for node, addr := range b.a.Config.Peers {
		peers = append(peers, handoff.Place{Node: node, Addr: addr})
	}
	b.asked, err = handoff.Inquire(ctx, copies.WitnessesOf(b.a.Copies, b.rec.ID), start, peers, b.req.DeclaredDead)
	return b.refusal(err)
}

// refusal says why the job cannot be brought back, and what to do about it.
func (b *restoreOp) refusal(err error) error {
	var alive *handoff.AliveError
	var silent *handoff.SilentError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &alive):
		return &api.Error{Code: api.CodeRefused, Message: fmt.Sprintf("job %s is still alive: %s", b.rec.ID, alive.Answer.Alive), Where: "on " + alive.Answer.Node,
			Hint: fmt.Sprintf("end it first, with `migrate rm -f %s` on %s", b.rec.ID, alive.Answer.Node)}
	case errors.As(err, &silent):
		return &api.Error{Code: api.CodeRefused, Message: fmt.Sprintf("nobody can say whether job %s runs: it may be on a node that cannot be asked (%v)", b.rec.ID, silent), Where: "there, or nowhere but in " + b.req.Dir,
			Hint: b.wayOut(silent)}
	}
	return &api.Error{Code: api.CodeRefused, Message: fmt.Sprintf("job %s: %v", b.rec.ID, err), Where: b.whereSaved()}
}

// wayOut is what to do about nodes that cannot be asked: those that answer know best, the others may
// be down for good.
func (b *restoreOp) wayOut(silent *handoff.SilentError) string {
	var dead []string
	for _, node := range slices.Sorted(maps.Keys(silent.Nodes)) {
		err := silent.Nodes[node]
		if told := (*api.Error)(nil); errors.As(err, &told) && told.Hint != "" {
			return told.Hint
		}
		if errors.Is(err, handoff.ErrAnswers) {
			return "put right what " + node + " says, and the same command again"
		}
		dead = append(dead, "--declared-dead "+node)
	}
	for _, node := range b.req.DeclaredDead {
		dead = append(dead, "--declared-dead "+node)
	}
	return fmt.Sprintf("see that its agent answers, and that --peer names its address; if it is down for good, and you have made sure of that: `migrate restore %s %s`, as root", strings.Join(dead, " "), b.req.Dir)
}

func (b *restoreOp) whereSaved() string { return "in " + b.req.Dir + ", saved" }

// rival says that somebody else was faster.
func (b *restoreOp) rival(err error) error {
	return &api.Error{Code: api.CodeRefused, Message: fmt.Sprintf("job %s: %v", b.rec.ID, errors.Join(handoff.ErrRival, err)), Where: b.whereSaved(),
		Hint: "the same command again tells where it runs, if it does"}
}

// begin admits the restore here, if this node knows no more of the job than when it was asked: from
// then on whoever asks it hears that the job comes to life here.
func (b *restoreOp) begin(ctx context.Context, half *handoff.TargetHalf) error {
	b.a.Copies.GrantLock.Lock()
	defer b.a.Copies.GrantLock.Unlock()
	now, err := b.a.Copies.Inquire(ctx, b.rec.ID)
	if err != nil {
		return err
	}
	if now.Alive != "" {
		return b.refusal(&handoff.AliveError{Answer: now})
	}
	if now.Seen != b.asked.Seen(b.a.Config.Node) {
		return b.rival(fmt.Errorf("epoch %d, seen %d", b.rec.Epoch, now.Seen))
	}
	return half.Begin(ctx)
}

// own makes the job this node's to bring back. Whom it has to tell that is on the disk first; then
// everybody who was asked grants it.
func (b *restoreOp) own(ctx context.Context) error {
	id := string(b.rec.ID)
	if dead := b.asked.Dead(); len(dead) > 0 {
		b.a.Log.Warn("an operator declares nodes dead", logkey.Job, id, logkey.Epoch, b.rec.Epoch, logkey.Nodes, slices.Sorted(maps.Keys(dead)))
		if err := b.a.Fence.Owe(id, handoff.Debt{Epoch: b.rec.Epoch, Nodes: dead}); err != nil {
			return err
		}
		if err := b.asked.StillSilent(ctx); err != nil {
			return b.rival(err)
		}
	}
	if err := b.asked.Grant(ctx, handoff.Grant{Epoch: b.rec.Epoch, Node: b.a.Config.Node}); err != nil {
		return b.rival(err)
	}
	return b.a.Fence.Hold(id, handoff.Grant{Epoch: b.rec.Epoch, Node: b.a.Config.Node, Addr: b.a.Peers.PublicAddr()})
}

// brought tells whom this restore has to tell, or forgets it when the job has not run.
func (b *restoreOp) brought(half *handoff.TargetHalf) error {
	switch half.State() {
	case handoff.StateDropped:
		return b.a.Fence.Forgive(string(b.rec.ID), b.rec.Epoch)
	case handoff.StateDone:
		b.a.Copies.PayDebts(b.rec.ID)
	}
	return nil
}
