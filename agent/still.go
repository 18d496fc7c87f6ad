package agent

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/namespaces"
	"github.com/migrate-hpc/migrate/shim"
)

// stillTime is how long a request waits for a job that stands still for a move.
const stillTime = 30 * time.Second

// whenRunning has h deal with a job that does not stand still for a move: here or, if
// that takes it away, on the other node. With gate none begins meanwhile, and h has no
// longer than passTime.
func (a *Agent) whenRunning(h jobHandler, gate bool) jobHandler {
	return func(w http.ResponseWriter, r *http.Request, c caller, rec job.Record) error {
		ctx, cancel := context.WithTimeout(r.Context(), stillTime)
		defer cancel()
		for rec.MovedTo == nil {
			if done, err := a.ifRunning(ctx, r, rec, gate, func(r *http.Request) error { return h(w, r, c, rec) }); done {
				return err
			}
			select {
			case <-time.After(10 * time.Millisecond):
			case <-ctx.Done():
				return &api.Error{Code: api.CodeFailed, Message: fmt.Sprintf("job %s is frozen for a move that is not finished; nothing was done", rec.ID),
					Where: "on " + a.cfg.Node + ", or on the other node of the move", Hint: "`migrate moves` tells what it waits for; try again then"}
			}
			again, err := a.find(ctx, string(rec.ID), c)
			if err != nil {
				return err
			}
			rec = again
		}
		return a.passOn(w, r, c, rec)
	}
}

// ifRunning waits no longer than ctx says.
func (a *Agent) ifRunning(ctx context.Context, r *http.Request, rec job.Record, gate bool, do func(*http.Request) error) (done bool, err error) {
	if gate {
		leave, err := a.gates.pass(ctx, rec.ID)
		if err != nil {
			return false, nil
		}
		defer leave()
		within, cancel := context.WithTimeout(ctx, passTime)
		defer cancel()
		ctx, r = within, r.WithContext(within)
	}
	if a.standsStill(ctx, rec) {
		return false, nil
	}
	return true, do(r)
}

// standsStill tells whether the job is frozen here for a move, or has not begun to run
// here. One that somebody else has frozen does not.
func (a *Agent) standsStill(ctx context.Context, rec job.Record) bool {
	switch a.unfinished(rec.ID) {
	case handoff.RoleSource:
		cg := namespaces.Cgroup{Dirs: rec.Cgroup}
		held, err := cg.SelfFreezing()
		return err == nil && held
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
