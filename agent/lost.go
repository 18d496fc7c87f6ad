package agent

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/namespaces"
	"github.com/migrate-hpc/migrate/shim"
)

// That no shim answers says nothing about a job's tasks: a shim may have been killed, or
// its socket removed. The kernel knows whether there are any, in the job's own cgroup.

// gone tells whether a job whose shim does not answer has no task any more. What cannot be
// found out is no proof.
func gone(rec job.Record, err error) bool {
	if !errors.Is(err, shim.ErrGone) {
		return false
	}
	n, err := tasksOf(rec)
	return err == nil && n == 0
}

// notRunning is the answer for a job that is over, or whose shim cannot be reached.
func (a *Agent) notRunning(ctx context.Context, rec job.Record) error {
	return ended(a.view(ctx, rec))
}

func ended(v api.Job) error {
	if v.State == api.JobAstray {
		return astray(v)
	}
	if v.State == api.JobSaved {
		return &api.Error{Code: api.CodeFailed, Message: fmt.Sprintf("job %s does not run here any more: it was saved", v.ID), Where: "in " + v.SavedIn + ", or where it was restored from there",
			Hint: "`migrate restore " + v.SavedIn + "` brings it back, or tells where it is"}
	}
	return &api.Error{Code: api.CodeFailed, Message: fmt.Sprintf("job %s does not run any more", v.ID), Where: "over", Hint: "`migrate inspect " + string(v.ID) + "` tells how it ended"}
}

// astray is a job that runs and that nobody can reach.
func astray(v api.Job) error {
	return &api.Error{Code: api.CodeFailed, Message: fmt.Sprintf("job %s is astray: no shim answers for it, but %d of its processes run", v.ID, v.Tasks),
		Where: fmt.Sprintf("on %s, in %s", v.Node, v.CgroupDir),
		Hint:  fmt.Sprintf("`migrate kill -s KILL %s` ends them, `migrate rm -f %s` forgets the job, too", v.ID, v.ID)}
}

// signalLost ends a job that no shim answers for, if that is what is asked for.
func (a *Agent) signalLost(ctx context.Context, rec job.Record, sig syscall.Signal) error {
	v := a.view(ctx, rec)
	if v.State != api.JobAstray || sig != syscall.SIGKILL {
		return a.notRunning(ctx, rec)
	}
	if err := a.maySignal(rec); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, passTime)
	defer cancel()
	if err := (&namespaces.Cgroup{Dirs: rec.Cgroup}).Kill(ctx); err != nil {
		return &api.Error{Code: api.CodeFailed, Message: fmt.Sprintf("job %s: %v", rec.ID, err), Where: "on " + a.cfg.Node, Hint: "the same command again; a task may wait for a file server that does not answer"}
	}
	return nil
}
