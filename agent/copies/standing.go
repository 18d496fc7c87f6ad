package copies

import (
	"cmp"
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
	"github.com/migrate-hpc/migrate/logkey"
)

// Witnesses are the nodes as an inquiry about a job asks them.
type Witnesses struct {
	a  *Copies
	id job.ID
}

// WitnessesOf asks nodes about a job.
func WitnessesOf(a *Copies, id job.ID) Witnesses { return Witnesses{a, id} }

func (w Witnesses) path() string { return peer.PeerPath + "/" + string(w.id) }

func (w Witnesses) Standing(ctx context.Context, node string, addrs []string) (s handoff.Standing, err error) {
	if node == w.a.Config.Node {
		if s, err = w.a.Standing(ctx, w.id); err != nil {
			err = fmt.Errorf("%w: %w", handoff.ErrAnswers, err)
		}
		return s, err
	}
	ctx, cancel := context.WithTimeout(ctx, httpjson.AskTime)
	defer cancel()
	err = w.a.Peers.Question(ctx, node, addrs, w.path(), nil, &s)
	s.Node = node // whose certificate it has shown
	return s, err
}

func (w Witnesses) Grant(ctx context.Context, node string, addrs []string, seen int64, g handoff.Grant) error {
	ctx, cancel := context.WithTimeout(ctx, httpjson.AskTime)
	defer cancel()
	return w.a.Peers.Question(ctx, node, addrs, w.path()+"/grant", peer.GrantRequest{Epoch: g.Epoch, Seen: seen, Port: w.a.Peers.ListenPort()}, &struct{}{})
}

// Standing is what this node knows about a job, from its own records and its kernel.
func (a *Copies) Standing(ctx context.Context, id job.ID) (handoff.Standing, error) {
	if unheard := a.Fence.Unheard(); len(unheard) > 0 {
		return handoff.Standing{}, &api.Error{Code: api.CodeUnreachable, Message: fmt.Sprintf("%s went down, and does not know yet what has become of jobs since: it has not reached %s", a.Config.Node, strings.Join(unheard, ", ")),
			Hint: fmt.Sprintf("start those agents with `migrate agent`; if a node is gone for good, restart the agent of %s without --peer for it", a.Config.Node)}
	}
	if err := a.Fence.Damage(); err != nil {
		return handoff.Standing{}, &api.Error{Code: api.CodeFailed, Message: fmt.Sprintf("%s does not know any more which jobs were brought back: %v", a.Config.Node, err),
			Hint: "put right what the log of the agent there says: `journalctl -u migrate` on " + a.Config.Node}
	}
	s := handoff.Standing{Node: a.Config.Node, Seen: a.Fence.Highest(string(id))}
	s.Epoch = s.Seen
	if g, ok := a.Fence.Granted(string(id)); ok && g.Node != a.Config.Node {
		s.Next = append(s.Next, handoff.Place{Node: g.Node, Addr: g.Addr})
	}
	if a.Fence.HasLost(string(id)) {
		for node, addr := range a.Config.Peers {
			s.Next = append(s.Next, handoff.Place{Node: node, Addr: addr})
		}
	}
	if role := a.Unfinished(id); role != "" {
		s.Alive = fmt.Sprintf("%s is the %s of a move, checkpoint or restore of it that is not finished", a.Config.Node, role)
	}
	rec, err := a.Jobs.Get(id)
	if guarded := a.Unguarded(id, a.ArrivesSince(job.Record{ID: id, Created: rec.Created})); guarded != nil {
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
		s.Alive, err = a.alive(ctx, rec)
	}
	return s, err
}

// alive says how a job runs here, or can come to run, "" if it cannot.
func (a *Copies) alive(ctx context.Context, rec job.Record) (string, error) {
	v := a.View(ctx, rec)
	switch v.State {
	case api.JobExited, api.JobSaved, api.JobMoved, api.JobLost:
	default:
		return fmt.Sprintf("it is %s on %s", v.State, a.Config.Node), nil
	}
	if v.State != api.JobLost && v.Superseded == nil {
		return "", nil
	}
	// Without a shim that looks after them its tasks may run on.
	left, err := node.TasksOf(rec)
	if err == nil && left > 0 {
		return fmt.Sprintf("its shim on %s is gone, but %d of its tasks are there", a.Config.Node, left), nil
	}
	return "", err
}

func idIn(r *http.Request) (job.ID, error) {
	id, err := job.ParseID(r.PathValue("job"))
	if err != nil {
		return id, &api.Error{Code: api.CodeUsage, Message: err.Error()}
	}
	return id, nil
}

func (a *Copies) AnswerStanding(r *http.Request, _ string) (any, error) {
	id, err := idIn(r)
	if err != nil {
		return nil, err
	}
	a.CatchUp(r.Context())
	return a.Standing(r.Context(), id)
}

// AnswerGrant lets a peer bring a job back, if it does not live here. The word is on the disk before
// it is given.
func (a *Copies) AnswerGrant(r *http.Request, asker string) (any, error) {
	var req peer.GrantRequest
	id, err := idIn(r)
	if err == nil {
		err = httpjson.Decode(r, &req)
	}
	if err != nil {
		return nil, err
	}
	a.Granting.Lock()
	defer a.Granting.Unlock()
	s, err := a.Standing(r.Context(), id)
	if err != nil {
		return nil, err
	}
	if s.Alive != "" || req.Epoch < s.Epoch {
		return nil, &api.Error{Code: api.CodeRefused, Message: fmt.Sprintf("job %s: %s", id, cmp.Or(s.Alive, "a later epoch of it is known")), Where: "on " + a.Config.Node}
	}
	g := handoff.Grant{Epoch: req.Epoch, Node: asker, Addr: peer.CallerAddr(r, req.Port)}
	if err := a.Fence.Grant(string(id), req.Seen, g); errors.Is(err, handoff.ErrStaleEpoch) {
		return nil, &api.Error{Code: api.CodeRefused, Message: err.Error(), Hint: "the same command again"}
	} else if err != nil {
		return nil, err
	}
	a.Log.Info("a job may be brought back elsewhere", logkey.Job, id, logkey.Peer, asker, logkey.Epoch, req.Epoch)
	return struct{}{}, nil
}

// AsPlace is where a job went.
func AsPlace(m *job.Moved) *handoff.Place { return &handoff.Place{Node: m.Node, Addr: m.Addr} }
