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

// StillTime is how long a request waits for a job that stands still for a move.
const StillTime = 30 * time.Second

// StandsStill tells whether the job is frozen here for a move, or has not begun to run
// here. One that somebody else has frozen does not.
func (a *Node) StandsStill(ctx context.Context, rec job.Record) bool {
	switch a.Unfinished(rec.ID) {
	case handoff.RoleSource:
		cg := cgroup.Cgroup{Dirs: rec.Cgroup}
		held, err := cg.SelfFreezing()
		return err == nil && held
	case handoff.RoleTarget:
		st, err := a.ShimOf(rec.ID).Status(ctx)
		return err == nil && (st.State == shim.Parked || st.State == shim.Waiting)
	}
	return false
}

// Only the owner of a freeze ends it. A move owns the one that it has made below the job's
// own cgroup, from its record frozen on, as the journal says. What keeps a job from running
// without such a record belongs to somebody else: a scheduler, root, or a move whose
// journal cannot be read.

// ArrivesSince is the same for a job that comes here.
func (a *Node) ArrivesSince(rec job.Record) time.Time {
	_, err := a.Jobs.Get(rec.ID)
	_, ran := os.Lstat(a.Paths.JobRun(rec.ID))
	if errors.Is(err, job.ErrNotFound) && errors.Is(ran, os.ErrNotExist) {
		return time.Now()
	}
	return rec.Created.Add(-clockDoubt)
}

// Unguarded refuses to touch a job that a journal which cannot be read may be about.
func (a *Node) Unguarded(id job.ID, since time.Time) error {
	err := a.Journal.Guard(string(id), since)
	if err == nil {
		return nil
	}
	return &api.Error{Code: api.CodeRefused, Message: fmt.Sprintf("job %s is not touched: %v", id, err), Where: "on " + a.Config.Node + " as it was, or on another node",
		Hint: "have the operator look on all nodes where the job is (`migrate ps -a`, `migrate moves --all`), and then, on " + a.Config.Node + ", type the `migrate resolve … --forget` that `migrate moves` shows there"}
}

// MayBegin refuses a move or checkpoint of a job that is not free for it.
func (a *Node) MayBegin(rec job.Record) error {
	if err := a.Unguarded(rec.ID, UntouchedUntil(rec)); err != nil {
		return err
	}
	if a.Unfinished(rec.ID) != "" {
		return &api.Error{Code: api.CodeFailed, Message: fmt.Sprintf("job %s: %v", rec.ID, handoff.ErrBusy), Where: "on " + a.Config.Node + ", or on the other node of that move",
			Hint: "`migrate moves` tells what it waits for"}
	}
	return nil
}

// MayArrive refuses a job of which this node has something that it cannot read.
func (a *Node) MayArrive(rec job.Record) error {
	var unread *job.RecordError
	if _, err := a.Jobs.Get(rec.ID); errors.As(err, &unread) {
		return &api.Error{Code: api.CodeRefused, Message: fmt.Sprintf("job %s cannot come to %s: its record there is damaged: %v", rec.ID, a.Config.Node, unread.Err),
			Hint: fmt.Sprintf("on %s: `migrate rm -f %s`, or the operator puts the file right", a.Config.Node, rec.ID)}
	}
	return a.Unguarded(rec.ID, a.ArrivesSince(rec))
}

// Suspended is the refusal to touch a job that somebody else keeps from running.
func Suspended(id job.ID, node string, by *checkpoint.Suspended) error {
	where := "on " + node + ", suspended"
	if by.ByUnknownMove {
		where += "; it may be that another node has it"
	}
	return &api.Error{Code: api.CodeSuspended, Message: fmt.Sprintf("job %s: %v; nothing was done", id, by), Where: where, Hint: by.ResumeHint()}
}

// MaySignal refuses to reach the frozen copy of a job of which nobody knows whether it is
// the job.
func (a *Node) MaySignal(rec job.Record) error {
	held, err := (&cgroup.Cgroup{Dirs: rec.Cgroup}).SelfFreezing()
	if err != nil || !held {
		return err
	}
	return a.Unguarded(rec.ID, UntouchedUntil(rec))
}

// EndSuspended has a job that has been killed end although somebody has frozen it: a version
// 1 freezer holds even the killed. What is frozen above the job's own cgroup is not its own,
// and may hold the shim, too; then somebody has to resume it.
func (a *Node) EndSuspended(ctx context.Context, rec job.Record) error {
	if state, _ := a.Stands(rec); state != api.JobSuspended {
		return nil
	}
	cg := cgroup.Cgroup{Dirs: rec.Cgroup}
	above, err := cg.SuspendedAbove()
	if err != nil {
		return err
	}
	if above == "" {
		ctx, cancel := context.WithTimeout(ctx, PassTime)
		defer cancel()
		return cg.Kill(ctx)
	}
	if _, err := a.Status(ctx, rec.ID); err == nil && cg.CanDumpStopped() {
		return nil
	}
	by := &checkpoint.Suspended{Cgroup: above}
	return &api.Error{Code: api.CodeSuspended, Message: fmt.Sprintf("job %s is killed, and ends as soon as it is resumed: %v", rec.ID, by), Where: "on " + a.Config.Node + ", suspended", Hint: by.ResumeHint()}
}
