package copies

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
	"github.com/migrate-hpc/migrate/agent/httpjson"
	"github.com/migrate-hpc/migrate/agent/node"
	"github.com/migrate-hpc/migrate/agent/peer"
	"github.com/migrate-hpc/migrate/agent/source"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/logkey"
	"github.com/migrate-hpc/migrate/namespaces/cgroup"
)

// A job that was restored past a node declared dead has a second copy if that node lives. The copy
// of the older line (handoff.Line) ends as soon as its node hears of the other one. The restoring
// node tells it, for as long as that takes; it asks its peers, from its start on; or it is offered
// the other copy.

// errBusy says that a move of the copy must end first.
var errBusy = errors.New("it is in a move that is not finished")

// supersede ends this node's copy of a job: the copy at by is the job.
func (c *Copies) supersede(ctx context.Context, id job.ID, by job.Moved) error {
	release, err := c.Leaving.Claim(id, handoff.NewMoveID())
	if err != nil {
		return fmt.Errorf("%w: %w", errBusy, err)
	}
	defer release()
	if c.UnfinishedRole(id) != "" {
		return errBusy
	}
	rec, err := c.Jobs.Get(id)
	if err != nil {
		return err
	}
	if rec.Superseded == nil {
		if !rec.Here() || !handoff.Supersedes(by.Epoch, rec.Epoch) {
			return nil
		}
		c.Log.Warn("a job was brought back elsewhere while this node was taken for dead; its copy here is ended", logkey.Job, id, logkey.Epoch, rec.Epoch,
			logkey.Peer, by.Node, logkey.Later, by.Epoch)
		if rec, err = c.writeSuperseded(ctx, rec, by); err != nil || rec.Superseded == nil {
			return err
		}
	}
	return c.endSuperseded(ctx, rec)
}

// writeSuperseded freezes a copy for good and writes down its end, unless it has exited by itself.
func (c *Copies) writeSuperseded(ctx context.Context, rec job.Record, by job.Moved) (job.Record, error) {
	cg := cgroup.Cgroup{Dirs: rec.Cgroup}
	left, err := node.CountTasks(rec)
	if err == nil && left > 0 {
		err = freezeWithin(ctx, &cg)
	}
	if err != nil {
		return rec, err
	}
	used, _ := cg.CPUTime() // 0 for a cgroup that is gone
	return c.Jobs.Update(rec.ID, func(r *job.Record) error {
		if r.Exit != nil {
			return nil
		}
		r.Superseded = &by
		r.Exit = &job.Exit{Code: 128 + int(syscall.SIGKILL), Signal: int(syscall.SIGKILL), At: time.Now(), CPU: r.CPUBefore + time.Duration(used)}
		return nil
	})
}

func freezeWithin(ctx context.Context, cg *cgroup.Cgroup) error {
	ctx, cancel := context.WithTimeout(ctx, source.FreezeTime)
	defer cancel()
	return cg.Freeze(ctx)
}

// endSuperseded frees a copy whose end is written down. None of its tasks has run since.
func (c *Copies) endSuperseded(ctx context.Context, rec job.Record) error {
	d, err := c.Sources.JobOf(ctx, rec, string(handoff.NewMoveID()), nil)
	if err != nil {
		return err
	}
	d.SkipPull = true
	return d.Release(ctx)
}

// endSupersededAgain goes on with copies that could not be ended, by this agent or an earlier one.
func (c *Copies) endSupersededAgain(ctx context.Context) {
	recs, _ := c.Jobs.List() // those that can be read
	for _, rec := range recs {
		if n, err := node.CountTasks(rec); rec.Superseded == nil || err == nil && n == 0 {
			continue
		}
		if err := c.supersede(ctx, rec.ID, *rec.Superseded); err != nil && ctx.Err() == nil {
			c.Log.Error("a copy of a job that was brought back elsewhere could not be ended", logkey.Job, rec.ID, logkey.Err, err)
		}
	}
}

// AnswerSuperseded takes the message of a peer that it has restored a job under an epoch.
func (c *Copies) AnswerSuperseded(r *http.Request, asker string) (any, error) {
	var req peer.SupersededRequest
	id, err := idIn(r)
	if err == nil {
		err = httpjson.Decode(r, &req)
	}
	if err != nil {
		return nil, err
	}
	by := job.Moved{Node: asker, Addr: peer.CallerAddr(r, req.Port), Epoch: req.Epoch, At: time.Now()}
	rec, err := c.Jobs.Get(id)
	switch {
	case errors.Is(err, job.ErrNotFound):
	case err != nil:
		return nil, err
	case c.UnfinishedRole(id) != "": // the move may fail, here or elsewhere
		return nil, &api.Error{Code: api.CodeFailed, Message: fmt.Sprintf("job %s: %v", id, errBusy), Where: "on " + c.Config.Node}
	case !handoff.Supersedes(req.Epoch, rec.Epoch):
		return peer.SupersededReply{Epoch: rec.Epoch}, nil
	case rec.Here() || rec.Superseded != nil:
		// Not the peer's context: an end must not stop half way.
		ctx, cancel := context.WithTimeout(c.Life, peer.YieldTime)
		defer cancel()
		if err := c.supersede(ctx, id, by); err != nil {
			return nil, err
		}
	}
	if err := c.Fence.Learn(string(id), handoff.Grant{Epoch: by.Epoch, Node: asker, Addr: by.Addr}); err != nil {
		return nil, err
	}
	if rec.MovedTo != nil && rec.Exit == nil {
		return peer.SupersededReply{Next: PlaceOf(rec.MovedTo)}, nil
	}
	return peer.SupersededReply{}, nil
}

// PayDebts tells the nodes that were declared dead of each restore of a job, in the background and
// for as long as it takes.
func (c *Copies) PayDebts(id job.ID) {
	c.Background.Go(func() {
		for pause := peer.FirstRetry; ; pause = min(2*pause, peer.LongestRetry) {
			debts := c.Fence.Debts()[string(id)]
			if len(debts) == 0 {
				return
			}
			for _, d := range debts {
				c.payDebt(id, d, pause == peer.FirstRetry)
			}
			select {
			case <-c.Life.Done():
				return
			case <-time.After(pause):
			}
		}
	})
}

// PayAllDebts is PayDebts for every job.
func (c *Copies) PayAllDebts() {
	for id := range c.Fence.Debts() {
		c.PayDebts(job.ID(id))
	}
}

func (c *Copies) payDebt(id job.ID, d handoff.Debt, complain bool) {
	switch c.restoreOf(id, d.Epoch) {
	case handoff.StateDropped:
		if err := c.Fence.Forgive(string(id), d.Epoch); err != nil {
			c.Log.Error("a restore that failed", logkey.Job, id, logkey.Epoch, d.Epoch, logkey.Err, err)
		}
		return
	case handoff.StateDone, handoff.StateNew:
	default:
		return // it may still fail
	}
	for node, addr := range d.Nodes {
		if err := c.TellSuperseded(id, d.Epoch, node, addr); err != nil && complain {
			c.Log.Warn("a node that was declared dead has not heard that its job was brought back", logkey.Job, id, logkey.Epoch, d.Epoch, logkey.Peer, node, logkey.Err, err)
		}
	}
}

// PeersToTell are the names of the nodes that have yet to hear of a restore, for a message.
func (c *Copies) PeersToTell(rec handoff.Record) string {
	if rec.State != handoff.StateDone {
		return ""
	}
	for _, d := range c.Fence.Debts()[rec.Job] {
		if d.Epoch == rec.Epoch {
			return strings.Join(slices.Sorted(maps.Keys(d.Nodes)), ", ")
		}
	}
	return ""
}

// restoreOf is the state of a restore here. StateNew says that the journal has forgotten it: it is
// long done.
func (c *Copies) restoreOf(id job.ID, epoch int64) handoff.State {
	recs, _ := c.Journal.List() // those that can be read
	i := slices.IndexFunc(recs, func(r handoff.Record) bool {
		return r.Job == string(id) && r.Epoch == epoch && r.Kind == handoff.KindRestore
	})
	if i < 0 {
		return handoff.StateNew
	}
	return recs[i].State
}

// TellSuperseded tells a node that this one has restored a job under epoch.
func (c *Copies) TellSuperseded(id job.ID, epoch int64, node, addr string) error {
	ctx, cancel := context.WithTimeout(c.Life, peer.YieldTime)
	defer cancel()
	var theirs peer.SupersededReply
	err := c.Peers.Question(ctx, node, []string{addr}, peer.PeerPath+"/"+string(id)+"/superseded", peer.SupersededRequest{Epoch: epoch, Port: c.Peers.ListenPort()}, &theirs)
	if err != nil {
		return err
	}
	c.Log.Info("a node that was declared dead has heard that its job was brought back", logkey.Job, id, logkey.Epoch, epoch, logkey.Peer, node)
	if handoff.Supersedes(theirs.Epoch, epoch) { // the other node took this one for dead
		by := job.Moved{Node: node, Addr: addr, Epoch: theirs.Epoch, At: time.Now()}
		if err := c.supersede(ctx, id, by); err != nil && !errors.Is(err, job.ErrNotFound) {
			return err
		}
	}
	var instead []handoff.Place
	if theirs.Next != nil {
		instead = append(instead, *theirs.Next)
	}
	return c.Fence.Paid(string(id), epoch, node, instead...)
}

// EndOlderCopy ends this node's copy of a job if a peer offers one that supersedes it.
func (c *Copies) EndOlderCopy(ctx context.Context, source, addr string, o peer.Offer) error {
	rec, err := c.Jobs.Get(o.Record.ID)
	if err != nil || !rec.Here() || !handoff.Supersedes(o.Epoch, rec.Epoch) {
		return nil
	}
	if err := c.supersede(ctx, rec.ID, job.Moved{Node: source, Addr: addr, Epoch: o.Epoch, At: time.Now()}); err != nil {
		return &api.Error{Code: api.CodeFailed, Message: fmt.Sprintf("an older copy of job %s on %s could not be ended: %v", rec.ID, c.Config.Node, err)}
	}
	return nil
}
