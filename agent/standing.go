package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/namespaces"
)

// witnesses are the nodes as an inquiry about a job asks them.
type witnesses struct {
	a  *Agent
	id job.ID
}

func (w witnesses) path() string { return peerPath + "/" + string(w.id) }

func (w witnesses) Standing(ctx context.Context, node string, addrs []string) (s handoff.Standing, err error) {
	if node == w.a.cfg.Node {
		if s, err = w.a.standing(ctx, w.id); err != nil {
			err = fmt.Errorf("%w: %w", handoff.ErrAnswers, err)
		}
		return s, err
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	err = w.a.question(ctx, node, addrs, w.path(), nil, &s)
	s.Node = node // whose certificate it has shown
	return s, err
}

func (w witnesses) Grant(ctx context.Context, node string, addrs []string, seen int64, g handoff.Grant) error {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	return w.a.question(ctx, node, addrs, w.path()+"/grant", grantRequest{g.Epoch, seen, w.a.listenPort()}, &struct{}{})
}

// openFence starts without a fence that is damaged. Where it is gone and jobs are there, it was taken
// away, as [handoff.ErrFenceDamaged] says: whom this node has let bring jobs back is not known any more.
func (a *Agent) openFence() (err error) {
	_, missing := os.Lstat(a.paths.fence())
	if a.fence, err = handoff.OpenFence(a.paths.fence()); err != nil {
		a.log.Error("no job can come to this node", "err", err)
		return nil
	}
	ids, err := a.jobs.IDs()
	if err == nil && errors.Is(missing, fs.ErrNotExist) && len(ids) > 0 {
		err = a.fence.Lose("")
	}
	return errors.Join(err, a.fence.Booted(a.boot, slices.Collect(maps.Keys(a.cfg.Peers))))
}

// standing is what this node knows about a job, from its own records and its kernel.
func (a *Agent) standing(ctx context.Context, id job.ID) (handoff.Standing, error) {
	if unheard := a.fence.Unheard(); len(unheard) > 0 {
		return handoff.Standing{}, &api.Error{Code: api.CodeUnreachable, Message: fmt.Sprintf("%s went down, and does not know yet what has become of jobs since: it has not reached %s", a.cfg.Node, strings.Join(unheard, ", ")),
			Hint: fmt.Sprintf("start those agents with `migrate agent`; if a node is gone for good, restart the agent of %s without --peer for it", a.cfg.Node)}
	}
	if err := a.fence.Damage(); err != nil {
		return handoff.Standing{}, &api.Error{Code: api.CodeFailed, Message: fmt.Sprintf("%s does not know any more which jobs were brought back: %v", a.cfg.Node, err),
			Hint: "put right what the log of the agent there says: `journalctl -u migrate` on " + a.cfg.Node}
	}
	s := handoff.Standing{Node: a.cfg.Node, Seen: a.fence.Highest(string(id))}
	s.Epoch = s.Seen
	if g, ok := a.fence.Granted(string(id)); ok && g.Node != a.cfg.Node {
		s.Next = append(s.Next, handoff.Place{Node: g.Node, Addr: g.Addr})
	}
	if a.fence.HasLost(string(id)) {
		for node, addr := range a.cfg.Peers {
			s.Next = append(s.Next, handoff.Place{Node: node, Addr: addr})
		}
	}
	if role := a.unfinished(id); role != "" {
		s.Alive = fmt.Sprintf("%s is the %s of a move, checkpoint or restore of it that is not finished", a.cfg.Node, role)
	}
	rec, err := a.jobs.Get(id)
	if guarded := a.unguarded(id, a.arrivesSince(job.Record{ID: id, Created: rec.Created})); guarded != nil {
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
func (a *Agent) alive(ctx context.Context, rec job.Record) (string, error) {
	v := a.view(ctx, rec)
	switch v.State {
	case api.JobExited, api.JobSaved, api.JobMoved, api.JobLost:
	default:
		return fmt.Sprintf("it is %s on %s", v.State, a.cfg.Node), nil
	}
	if v.State != api.JobLost && v.Superseded == nil {
		return "", nil
	}
	// Without a shim that looks after them its tasks may run on.
	left, err := tasksOf(rec)
	if err == nil && left > 0 {
		return fmt.Sprintf("its shim on %s is gone, but %d of its tasks are there", a.cfg.Node, left), nil
	}
	return "", err
}

// tasksOf counts what is in a job's cgroup.
func tasksOf(rec job.Record) (int, error) {
	cg := namespaces.Cgroup{Dirs: rec.Cgroup}
	if cg.FreezerDir() == "" {
		return 0, nil
	}
	pids, err := cg.Pids()
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	return len(pids), err
}

func idIn(r *http.Request) (job.ID, error) {
	id, err := job.ParseID(r.PathValue("job"))
	if err != nil {
		return id, &api.Error{Code: api.CodeUsage, Message: err.Error()}
	}
	return id, nil
}

func (a *Agent) answerStanding(r *http.Request, _ string) (any, error) {
	id, err := idIn(r)
	if err != nil {
		return nil, err
	}
	a.catchUp(r.Context())
	return a.standing(r.Context(), id)
}

// answerGrant lets a peer bring a job back, if it does not live here. The word is on the disk before
// it is given.
func (a *Agent) answerGrant(r *http.Request, asker string) (any, error) {
	var req grantRequest
	id, err := idIn(r)
	if err == nil {
		err = decode(r, &req)
	}
	if err != nil {
		return nil, err
	}
	a.granting.Lock()
	defer a.granting.Unlock()
	s, err := a.standing(r.Context(), id)
	if err != nil {
		return nil, err
	}
	if s.Alive != "" || req.Epoch < s.Epoch {
		return nil, &api.Error{Code: api.CodeRefused, Message: fmt.Sprintf("job %s: %s", id, orElse(s.Alive, "a later epoch of it is known")), Where: "on " + a.cfg.Node}
	}
	g := handoff.Grant{Epoch: req.Epoch, Node: asker, Addr: callerAddr(r, req.Port)}
	if err := a.fence.Grant(string(id), req.Seen, g); errors.Is(err, handoff.ErrStaleEpoch) {
		return nil, &api.Error{Code: api.CodeRefused, Message: err.Error(), Hint: "the same command again"}
	} else if err != nil {
		return nil, err
	}
	a.log.Info("a job may be brought back elsewhere", "job", id, "peer", asker, "epoch", req.Epoch)
	return struct{}{}, nil
}
