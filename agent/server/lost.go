package server

import (
	"context"
	"fmt"
	"syscall"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/node"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/namespaces/cgroup"
)

// signalLost ends a job that no shim answers for, if that is what is asked for.
func (a *jobServer) signalLost(ctx context.Context, rec job.Record, sig syscall.Signal) error {
	v := a.View(ctx, rec)
	if v.State != api.JobAstray || sig != syscall.SIGKILL {
		return a.NotRunning(ctx, rec)
	}
	if err := a.MaySignal(rec); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, node.PassTime)
	defer cancel()
	if err := (&cgroup.Cgroup{Dirs: rec.Cgroup}).Kill(ctx); err != nil {
		return &api.Error{Code: api.CodeFailed, Message: fmt.Sprintf("job %s: %v", rec.ID, err), Where: "on " + a.Config.Node, Hint: "the same command again; a task may wait for a file server that does not answer"}
	}
	return nil
}
