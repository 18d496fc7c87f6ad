package copies

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/httpjson"
	"github.com/migrate-hpc/migrate/agent/node"
	"github.com/migrate-hpc/migrate/agent/peer"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
)

// Witnesses asks nodes about one job: handoff.Witnesses.
type Witnesses struct {
	a  *Copies
	id job.ID
}

// WitnessesOf asks nodes about a job, in the name of this one.
func WitnessesOf(a *Copies, id job.ID) Witnesses { return Witnesses{a, id} }

func (w Witnesses) path() string { return peer.PeerPath + "/" + string(w.id) }

// Ask asks a node, or this one without the network.
func (w Witnesses) Ask(ctx context.Context, node string, addrs []string) (s handoff.Answer, err error) {
	if node == w.a.Config.Node {
		if s, err = w.a.Inquire(ctx, w.id); err != nil {
			err = fmt.Errorf("%w: %w", handoff.ErrAnswers, err)
		}
		return s, err
	}
	ctx, cancel := context.WithTimeout(ctx, httpjson.PeerTimeout)
	defer cancel()
	err = w.a.Peers.Question(ctx, node, addrs, w.path(), nil, &s)
	s.Node = node // its certificate says so
	return s, err
}

// Grant asks a node to let this one restore the job.
func (w Witnesses) Grant(ctx context.Context, node string, addrs []string, seen int64, g handoff.Grant) error {
	ctx, cancel := context.WithTimeout(ctx, httpjson.PeerTimeout)
	defer cancel()
	return w.a.Peers.Question(ctx, node, addrs, w.path()+"/grant", peer.GrantRequest{Epoch: g.Epoch, Seen: seen, Port: w.a.Peers.ListenPort()}, &struct{}{})
}

// Inquire is what this node knows of a job, from its records and its kernel.
func (c *Copies) Inquire(ctx context.Context, id job.ID) (handoff.Answer, error) {
	if unheard := c.Fence.Unheard(); len(unheard) > 0 {
		return handoff.Answer{}, &api.Error{Code: api.CodeUnreachable, Message: fmt.Sprintf("%s went down, and does not know yet what has become of jobs since: it has not reached %s", c.Config.Node, strings.Join(unheard, ", ")),
			Hint: fmt.Sprintf("start those agents with `migrate agent`; if a node is gone for good, restart the agent of %s without --peer for it", c.Config.Node)}
	}
	if err := c.Fence.Damage(); err != nil {
		return handoff.Answer{}, &api.Error{Code: api.CodeFailed, Message: fmt.Sprintf("%s does not know any more which jobs were brought back: %v", c.Config.Node, err),
			Hint: "put right what the log of the agent there says: `journalctl -u migrate` on " + c.Config.Node}
	}
	s := handoff.Answer{Node: c.Config.Node, Seen: c.Fence.Highest(string(id))}
	s.Epoch = s.Seen
	if g, ok := c.Fence.Granted(string(id)); ok && g.Node != c.Config.Node {
		s.Next = append(s.Next, handoff.Place{Node: g.Node, Addr: g.Addr})
	}
	if c.Fence.HasLost(string(id)) {
		for node, addr := range c.Config.Peers {
			s.Next = append(s.Next, handoff.Place{Node: node, Addr: addr})
		}
	}
	if role := c.UnfinishedRole(id); role != "" {
		s.Alive = fmt.Sprintf("%s is the %s of a move, checkpoint or restore of it that is not finished", c.Config.Node, role)
	}
	rec, err := c.Jobs.Get(id)
	if guarded := c.CheckGuard(id, c.EarliestArrival(job.Record{ID: id, Created: rec.Created})); guarded != nil {
		return s, guarded
	}
	if errors.Is(err, job.ErrNotFound) {
		return s, nil
	}
	if err != nil {
		return s, err
	}
	s.Epoch = max(s.Epoch, rec.Epoch)
	if to := rec.MovedTo; to != nil && rec.Exit == nil {
		s.Next = append(s.Next, handoff.Place{Node: to.Node, Addr: to.Addr})
	}
	if s.Alive == "" {
		s.Alive, err = c.howAlive(ctx, rec)
	}
	return s, err
}

// howAlive says in what way a job runs here, or can come to run; "" says that it cannot.
func (c *Copies) howAlive(ctx context.Context, rec job.Record) (string, error) {
	v := c.View(ctx, rec)
	switch v.State {
	case api.JobExited, api.JobSaved, api.JobMoved, api.JobLost:
	default:
		return fmt.Sprintf("it is %s on %s", v.State, c.Config.Node), nil
	}
	if v.State != api.JobLost && v.Superseded == nil {
		return "", nil
	}
	// Tasks may run on without a shim.
	left, err := node.CountTasks(rec)
	if err == nil && left > 0 {
		return fmt.Sprintf("its shim on %s is gone, but %d of its tasks are there", c.Config.Node, left), nil
	}
	return "", err
}

// PlaceOf is the node that a job went to.
func PlaceOf(m *job.Moved) *handoff.Place { return &handoff.Place{Node: m.Node, Addr: m.Addr} }

func idIn(r *http.Request) (job.ID, error) {
	id, err := job.ParseID(r.PathValue("job"))
	if err != nil {
		return id, &api.Error{Code: api.CodeUsage, Message: err.Error()}
	}
	return id, nil
}
