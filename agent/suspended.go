package agent

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
	"github.com/migrate-hpc/migrate/namespaces"
)

// Only the owner of a freeze ends it. A move owns the one that it has made below the job's
// own cgroup, from its record frozen on, as the journal says. What keeps a job from running
// without such a record belongs to somebody else: a scheduler, root, or a move whose
// journal cannot be read.

// clockDoubt is by how much the clock of a node may have gone back, so that a job looks
// younger than a file that was written later.
const clockDoubt = 24 * time.Hour

// untouchedUntil is a time before which no move of a job can have left a record here: an
// epoch is used up before any record of it. See [handoff.Journal.Guard].
func untouchedUntil(rec job.Record) time.Time {
	if rec.Epoch == 0 {
		return time.Now()
	}
	return rec.Created.Add(-clockDoubt)
}

// arrivesSince is the same for a job that comes here.
func (a *Agent) arrivesSince(rec job.Record) time.Time {
	_, err := a.jobs.Get(rec.ID)
	_, ran := os.Lstat(a.paths.jobRun(rec.ID))
	if errors.Is(err, job.ErrNotFound) && errors.Is(ran, os.ErrNotExist) {
		return time.Now()
	}
	return rec.Created.Add(-clockDoubt)
}

// unguarded refuses to touch a job that a journal which cannot be read may be about.
func (a *Agent) unguarded(id job.ID, since time.Time) error {
	err := a.journal.Guard(string(id), since)
	if err == nil {
		return nil
	}
	return &api.Error{Code: api.CodeRefused, Message: fmt.Sprintf("job %s is not touched: %v", id, err), Where: "on " + a.cfg.Node + " as it was, or on another node",
		Hint: "have the operator look on all nodes where the job is (`migrate ps -a`, `migrate moves --all`), and then, on " + a.cfg.Node + ", type the `migrate resolve … --forget` that `migrate moves` shows there"}
}

// mayBegin refuses a move or checkpoint of a job that is not free for it.
func (a *Agent) mayBegin(rec job.Record) error {
	if err := a.unguarded(rec.ID, untouchedUntil(rec)); err != nil {
		return err
	}
	if a.unfinished(rec.ID) != "" {
		return &api.Error{Code: api.CodeFailed, Message: fmt.Sprintf("job %s: %v", rec.ID, handoff.ErrBusy), Where: "on " + a.cfg.Node + ", or on the other node of that move",
			Hint: "`migrate moves` tells what it waits for"}
	}
	return nil
}

// mayArrive refuses a job of which this node has something that it cannot read.
func (a *Agent) mayArrive(rec job.Record) error {
	var unread *job.RecordError
	if _, err := a.jobs.Get(rec.ID); errors.As(err, &unread) {
		return &api.Error{Code: api.CodeRefused, Message: fmt.Sprintf("job %s cannot come to %s: its record there is damaged: %v", rec.ID, a.cfg.Node, unread.Err),
			Hint: fmt.Sprintf("on %s: `migrate rm -f %s`, or the operator puts the file right", a.cfg.Node, rec.ID)}
	}
	return a.unguarded(rec.ID, a.arrivesSince(rec))
}

// suspended is the refusal to touch a job that somebody else keeps from running.
func suspended(id job.ID, node string, by *checkpoint.Suspended) error {
	where := "on " + node + ", suspended"
	if by.ByUnknownMove {
		where += "; it may be that another node has it"
	}
	return &api.Error{Code: api.CodeSuspended, Message: fmt.Sprintf("job %s: %v; nothing was done", id, by), Where: where, Hint: by.ResumeHint()}
}

// free refuses a job that somebody else keeps from running. No move of it may be under way.
func (d *departure) free() error {
	by, err := checkpoint.FindSuspension(d.src.Cgroup)
	if err != nil || by == nil {
		return err
	}
	return suspended(d.rec.ID, d.a.cfg.Node, by)
}

// stands tells for what a job stands still that has begun to run here: [api.JobFrozen] for a
// move, [api.JobSuspended] in the cgroup that is returned, [api.JobRunning] if it does not.
func (a *Agent) stands(rec job.Record) (api.JobState, string) {
	cg := namespaces.Cgroup{Dirs: rec.Cgroup}
	if held, err := cg.SelfFreezing(); err == nil && held {
		if a.unfinished(rec.ID) == handoff.RoleSource || a.journal.Guard(string(rec.ID), untouchedUntil(rec)) != nil {
			return api.JobFrozen, ""
		}
		return api.JobSuspended, cg.FreezerDir()
	}
	if dir, err := cg.Suspended(); err == nil && dir != "" {
		return api.JobSuspended, dir
	}
	return api.JobRunning, ""
}

// maySignal refuses to reach the frozen copy of a job of which nobody knows whether it is
// the job.
func (a *Agent) maySignal(rec job.Record) error {
	held, err := (&namespaces.Cgroup{Dirs: rec.Cgroup}).SelfFreezing()
	if err != nil || !held {
		return err
	}
	return a.unguarded(rec.ID, untouchedUntil(rec))
}

// endSuspended has a job that has been killed end although somebody has frozen it: a version
// 1 freezer holds even the killed. What is frozen above the job's own cgroup is not its own,
// and may hold the shim, too; then somebody has to resume it.
func (a *Agent) endSuspended(ctx context.Context, rec job.Record) error {
	if state, _ := a.stands(rec); state != api.JobSuspended {
		return nil
	}
	cg := namespaces.Cgroup{Dirs: rec.Cgroup}
	above, err := cg.SuspendedAbove()
	if err != nil {
		return err
	}
	if above == "" {
		ctx, cancel := context.WithTimeout(ctx, passTime)
		defer cancel()
		return cg.Kill(ctx)
	}
	if _, err := a.status(ctx, rec.ID); err == nil && cg.CanDumpStopped() {
		return nil
	}
	by := &checkpoint.Suspended{Cgroup: above}
	return &api.Error{Code: api.CodeSuspended, Message: fmt.Sprintf("job %s is killed, and ends as soon as it is resumed: %v", rec.ID, by), Where: "on " + a.cfg.Node + ", suspended", Hint: by.ResumeHint()}
}
