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

// FrozenWaitTime is how long a request waits for a job that stands still for a move.
const FrozenWaitTime = 30 * time.Second

// FrozenForMove tells whether the job is frozen here for a move, or has not begun to run
// here. One that somebody else has frozen does not.
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
// without such a record belongs to somebody else: a scheduler, root, or a move whose
// journal cannot be read.

// EarliestArrival is the same for a job that comes here.
func (n *Node) EarliestArrival(rec job.Record) time.Time {
	_, err := n.Jobs.Get(rec.ID)
	_, ran := os.Lstat(n.Paths.JobRun(rec.ID))
	if errors.Is(err, job.ErrNotFound) && errors.Is(ran, os.ErrNotExist) {
		return time.Now()
	}
	return rec.Created.Add(-clockSlack)
}

// CheckGuard refuses to touch a job that a journal which cannot be read may be about.
func (n *Node) CheckGuard(id job.ID, since time.Time) error {
	err := n.Journal.Guard(string(id), since)
	if err == nil {
		return nil
	}
	return &api.Error{Code: api.CodeRefused, Message: fmt.Sprintf("job %s is not touched: %v", id, err), Where: "on " + n.Config.Node + " as it was, or on another node",
		Hint: "have the operator look on all nodes where the job is (`migrate ps -a`, `migrate moves --all`), and then, on " + n.Config.Node + ", type the `migrate resolve … --forget` that `migrate moves` shows there"}
}

// CheckMovable refuses a move or checkpoint of a job that is not free for it.
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

// CheckArrival refuses a job of which this node has something that it cannot read.
func (n *Node) CheckArrival(rec job.Record) error {
	var unread *job.RecordError
	if _, err := n.Jobs.Get(rec.ID); errors.As(err, &unread) {
		return &api.Error{Code: api.CodeRefused, Message: fmt.Sprintf("job %s cannot come to %s: its record there is damaged: %v", rec.ID, n.Config.Node, unread.Err),
			Hint: fmt.Sprintf("on %s: `migrate rm -f %s`, or the operator puts the file right", n.Config.Node, rec.ID)}
	}
	return n.CheckGuard(rec.ID, n.EarliestArrival(rec))
}

// Suspended is the refusal to touch a job that somebody else keeps from running.
func Suspended(id job.ID, node string, by *checkpoint.Suspended) error {
	where := "on " + node + ", suspended"
	if by.ByUnknownMove {
		where += "; it may be that another node has it"
	}
	return &api.Error{Code: api.CodeSuspended, Message: fmt.Sprintf("job %s: %v; nothing was done", id, by), Where: where, Hint: by.ResumeHint()}
}

// CheckSignal refuses to reach the frozen copy of a job of which nobody knows whether it is
// the job.
func (n *Node) CheckSignal(rec job.Record) error {
	held, err := (&cgroup.Cgroup{Dirs: rec.Cgroup}).SelfFreezing()
	if err != nil || !held {
		return err
	}
	return n.CheckGuard(rec.ID, EarliestMove(rec))
}

// EndSuspended has a job that has been killed end although somebody has frozen it: a version
// 1 freezer holds even the killed. What is frozen above the job's own cgroup is not its own,
// and may hold the shim, too; then somebody has to resume it.
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
	if _, err := n.Status(ctx, rec.ID); err == nil && cg.CanDumpStopped() {
		return nil
	}
	by := &checkpoint.Suspended{Cgroup: above}
	return &api.Error{Code: api.CodeSuspended, Message: fmt.Sprintf("job %s is killed, and ends as soon as it is resumed: %v", rec.ID, by), Where: "on " + n.Config.Node + ", suspended", Hint: by.ResumeHint()}
}
