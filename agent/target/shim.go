package target

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/migrate-hpc/migrate/agent/caller"
	"github.com/migrate-hpc/migrate/agent/launch"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/namespaces"
	"github.com/migrate-hpc/migrate/shim"
)

// StartShim starts the shim that will restore the copy, unless it runs already. A move first tries
// that at its begin, outside the downtime, and again when the job is here: an earlier copy may take
// until then to leave this node.
func (j *Job) StartShim(ctx context.Context, rec job.Record) (*waitingShim, error) {
	if j.shim != nil {
		return j.shim, nil
	}
	if _, err := j.targets.ShimOf(j.ID).Status(ctx); !errors.Is(err, shim.ErrGone) {
		return nil, fmt.Errorf("an earlier copy of job %s has not left this node yet", j.ID)
	}
	roomy := rec
	roomy.Spec.Limits.Pids = 0 // CRIU works inside and has tasks of its own
	cg, err := j.targets.Launcher.MakeCgroup(roomy, nil)
	if err != nil {
		return nil, err
	}
	r := &waitingShim{cgroup: cg, cfg: j.targets.Launcher.ShimConfig(rec, j.IODir())}
	r.cfg.Cgroup, r.cfg.Store = *cg, j.pages()
	r.cfg.RestoreEnv = &namespaces.RestoreEnv{Keyring: string(rec.ID), Cgroup: cg, Root: rec.Spec.Root, RootDir: r.cfg.RootDir(), User: caller.OwnerOf(rec.Spec).User(), Network: !rec.Spec.UserNS}
	rec = launch.ArrivingRecord(rec)
	rec.Cgroup = cg.Dirs
	if err = j.SaveRecord(rec); err == nil {
		r.client, err = shim.Start(r.cfg, j.Dir())
	}
	if err != nil {
		return nil, errors.Join(err, cg.Remove(), os.RemoveAll(r.cfg.RunDir))
	}
	j.shim = r
	return r, nil
}
