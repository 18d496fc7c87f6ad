package launch

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/namespaces/cgroup"
	"github.com/migrate-hpc/migrate/namespaces/network"
	"github.com/migrate-hpc/migrate/shim"
)

// startShim makes the job's cgroup beneath those that the shim joins, or the agent's own, and
// starts the shim.
func (l *Launcher) startShim(rec job.Record, cfg shim.Config) error {
	cg, err := l.MakeCgroup(rec, cfg.Join)
	if err != nil {
		return err
	}
	cfg.Cgroup = *cg
	_, err = l.Jobs.Update(rec.ID, func(r *job.Record) error {
		r.Cgroup = cg.Dirs
		return nil
	})
	if err == nil {
		_, err = shim.Start(cfg, l.Jobs.Dir(rec.ID))
	}
	if err != nil {
		ctx, cancel := context.WithTimeout(context.Background(), undoTime)
		defer cancel()
		return errors.Join(err, l.UndoStart(ctx, cg, cfg))
	}
	return nil
}

const (
	// startTime is how long a job may take until its command runs.
	startTime = time.Minute
	undoTime  = 5 * time.Second
)

// UndoStart removes what a failed start has left, at whatever step. It ends the tasks in the cgroup.
func (l *Launcher) UndoStart(ctx context.Context, cg *cgroup.Cgroup, cfg shim.Config) error {
	err := cg.Kill(ctx)
	if err != nil {
		l.Background.Go(func() { l.removeWhenEmpty(cg) })
	} else {
		err = cg.Remove()
	}
	if cfg.LinkName != "" {
		err = errors.Join(err, network.RemoveLink(cfg.LinkName))
	}
	return errors.Join(err, os.RemoveAll(cfg.RunDir))
}

// removeWhenEmpty waits for killed tasks, which may wait for a file server first.
func (l *Launcher) removeWhenEmpty(cg *cgroup.Cgroup) {
	for cg.Remove() != nil {
		select {
		case <-time.After(time.Second):
		case <-l.Life.Done():
			return
		}
	}
}
