package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/checkpoint"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/namespaces/cgroup"
	"github.com/migrate-hpc/migrate/shim"
)

// FrozenWaitTime is how long a request waits for a job that is frozen for a move.
const FrozenWaitTime = 30 * time.Second

// FrozenForMove tells whether a move has frozen the job here, or the job has not begun to run
// here. A freeze that is not a move's does not count.
func (n *Node) FrozenForMove(ctx context.Context, rec job.Record) bool {
	switch n.UnfinishedRole(rec.ID) {
	case handoff.RoleSource:
		cg := cgroup.Cgroup{Dirs: rec.Cgroup}
		held, err := cg.SelfFreezing()
		return err == nil && held
	case handoff.RoleTarget:
		st, err := n.ShimOf(rec.ID).Status(ctx)
		return err == nil && (st.State == shim.Parked || st.State == shim.Waiting)
	}
	return false
}

// Only the owner of a freeze ends it. A move owns the one that it has made below the job's
// own cgroup, from its record frozen on, as the journal says. What keeps a job from running
// without such a record belongs to another owner: a scheduler, root, or a move whose
// journal cannot be read.

// EarliestArrival is EarliestMove for a job that comes to this node.
func (n *Node) EarliestArrival(rec job.Record) time.Time {
	_, err := n.Jobs.Get(rec.ID)
	_, ran := os.Lstat(n.Paths.JobRun(rec.ID))
	if errors.Is(err, job.ErrNotFound) && errors.Is(ran, os.ErrNotExist) {
		return time.Now()
	}
	return rec.Created.Add(-clockSlack)
}

// CheckGuard fails with api.CodeRefused for a job that an unreadable journal may be about. since is
// a time before which no move of the job can have left a record here.
func (n *Node) CheckGuard(id job.ID, since time.Time) error {
	err := n.Journal.Guard(string(id), since)
	if err == nil {
		return nil
	}
	return &api.Error{Code: api.CodeRefused, Message: fmt.Sprintf("job %s is not touched: %v", id, err), Where: "on " + n.Config.Node + " as it was, or on another node",
		Hint: "have the operator look on all nodes where the job is (`migrate ps -a`, `migrate moves --all`), and then, on " + n.Config.Node + ", type the `migrate resolve … --forget` that `migrate moves` shows there"}
}

// CheckMovable refuses a move or checkpoint of a job that is guarded or in an unfinished move.
func (n *Node) CheckMovable(rec job.Record) error {
	if err := n.CheckGuard(rec.ID, EarliestMove(rec)); err != nil {
		return err
	}
	if n.UnfinishedRole(rec.ID) != "" {
		return &api.Error{Code: api.CodeFailed, Message: fmt.Sprintf("job %s: %v", rec.ID, handoff.ErrBusy), Where: "on " + n.Config.Node + ", or on the other node of that move",
			Hint: "`migrate moves` tells what it waits for"}
	}
	return nil
}

// CheckArrival refuses a job of which this node has a record or journal that it cannot read.
func (n *Node) CheckArrival(rec job.Record) error {
	var unread *job.RecordError
	if _, err := n.Jobs.Get(rec.ID); errors.As(err, &unread) {
		return &api.Error{Code: api.CodeRefused, Message: fmt.Sprintf("job %s cannot come to %s: its record there is damaged: %v", rec.ID, n.Config.Node, unread.Err),
			Hint: fmt.Sprintf("on %s: `migrate rm -f %s`, or the operator puts the file right", n.Config.Node, rec.ID)}
	}
	return n.CheckGuard(rec.ID, n.EarliestArrival(rec))
}

// Suspended is the refusal of a request about a job that another owner of its freeze keeps from
// running.
func Suspended(id job.ID, node string, by *checkpoint.Suspended) error {
	where := "on " + node + ", suspended"
	if by.ByUnknownMove {
		where += "; it may be that another node has it"
	}
	return &api.Error{Code: api.CodeSuspended, Message: fmt.Sprintf("job %s: %v; nothing was done", id, by), Where: where, Hint: by.ResumeHint()}
}

// CheckSignal refuses to signal a frozen copy that a damaged journal guards: it may not be the
// job any more.
func (n *Node) CheckSignal(rec job.Record) error {
	held, err := (&cgroup.Cgroup{Dirs: rec.Cgroup}).SelfFreezing()
	if err != nil || !held {
		return err
	}
	return n.CheckGuard(rec.ID, EarliestMove(rec))
}

// EndSuspended ends a killed job that is frozen, but not by a move: a version 1 freezer holds even
// killed tasks. A freeze above the job's own cgroup may hold the shim, too. It stays, and the
// error, api.CodeSuspended, says how to resume the job.
func (n *Node) EndSuspended(ctx context.Context, rec job.Record) error {
	if state, _ := n.RunState(rec); state != api.JobSuspended {
		return nil
	}
	cg := cgroup.Cgroup{Dirs: rec.Cgroup}
	above, err := cg.SuspendedAbove()
	if err != nil {
		return err
	}
	if above == "" {
		ctx, cancel := context.WithTimeout(ctx, SharedLockTime)
		defer cancel()
		return cg.Kill(ctx)
	}
	if _, err := n.Status(ctx, rec.ID); err == nil && cg.FrozenTasksWake() {
		return nil
	}
	by := &checkpoint.Suspended{Cgroup: above}
	return &api.Error{Code: api.CodeSuspended, Message: fmt.Sprintf("job %s is killed, and ends as soon as it is resumed: %v", rec.ID, by), Where: "on " + n.Config.Node + ", suspended", Hint: by.ResumeHint()}
}
