package agent

import (
	"context"
	"fmt"
	"hash/fnv"
	"net/http"
	"sync"
	"time"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/namespaces"
	"github.com/migrate-hpc/migrate/shim"
)

// gates keep apart what reaches a job and its freeze. A signal that comes to a job that
// CRIU has looked at already is known to nobody but the copy that will be dropped. Jobs
// that share a gate wait for each other a little.
type gates [64]sync.RWMutex

func (g *gates) of(id job.ID) *sync.RWMutex {
	h := fnv.New32a()
	_, _ = h.Write([]byte(id)) // never fails
	return &g[h.Sum32()%uint32(len(g))]
}

// stillTime is how long a request waits for a job that stands still for a move.
const stillTime = 30 * time.Second

// whenRunning has h deal with a job that does not stand still for a move: here or, if
// that takes it away, on the other node. With gate none begins meanwhile, and h has no
// longer than the wait.
func (a *Agent) whenRunning(h jobHandler, gate bool) jobHandler {
	return func(w http.ResponseWriter, r *http.Request, c caller, rec job.Record) error {
		ctx, cancel := context.WithTimeout(r.Context(), stillTime)
		defer cancel()
		within := r
		if gate {
			within = r.WithContext(ctx)
		}
		for rec.MovedTo == nil {
			if done, err := a.ifRunning(ctx, rec, gate, func() error { return h(w, within, c, rec) }); done {
				return err
			}
			select {
			case <-time.After(10 * time.Millisecond):
			case <-ctx.Done():
				return &api.Error{Code: api.Failed, Message: fmt.Sprintf("job %s stands still for a move that is not finished; nothing was done", rec.ID),
					Where: "on " + a.cfg.Node + ", or on the other node of the move", Hint: "`migrate moves` tells what it waits for; try again then"}
			}
			again, err := a.find(string(rec.ID), c)
			if err != nil {
				return err
			}
			rec = again
		}
		return a.passOn(w, r, c, rec)
	}
}

func (a *Agent) ifRunning(ctx context.Context, rec job.Record, gate bool, do func() error) (done bool, err error) {
	if gate {
		g := a.gates.of(rec.ID)
		g.RLock()
		defer g.RUnlock()
	}
	if a.standsStill(ctx, rec) {
		return false, nil
	}
	return true, do()
}

// standsStill tells whether the job is frozen here for a move, or has not begun to run
// here. One that somebody else has frozen does not.
func (a *Agent) standsStill(ctx context.Context, rec job.Record) bool {
	switch a.unfinished(rec.ID) {
	case handoff.RoleSource:
		cg := namespaces.Cgroup{Dirs: rec.Cgroup}
		frozen, err := cg.Frozen()
		return err == nil && frozen
	case handoff.RoleTarget:
		st, err := a.shimOf(rec.ID).Status(ctx)
		return err == nil && (st.State == shim.Parked || st.State == shim.Waiting)
	}
	return false
}

// unfinished is this node's role in a move of the job that has begun and not ended, ""
// for none.
func (a *Agent) unfinished(id job.ID) handoff.Role {
	recs, _ := a.journal.Unfinished() // of those that can be read
	for _, r := range recs {
		if r.Job == string(id) {
			return r.Role
		}
	}
	return ""
}
