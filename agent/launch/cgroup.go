package launch

import (
	"errors"
	"os"

	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/namespaces/cgroup"
)

// MakeCgroup makes a job's own cgroup, with its limits, beneath parents, by controller; nil is the
// agent's own.
func (l *Launcher) MakeCgroup(rec job.Record, parents map[string]string) (cg *cgroup.Cgroup, err error) {
	if parents == nil {
		if parents, err = cgroup.Of(os.Getpid()); err != nil {
			return nil, err
		}
	}
	cg, err = cgroup.NewIn(parents, l.CgroupName(rec.ID))
	if err != nil {
		return nil, err
	}
	limits := rec.Spec.Limits
	if err := cg.Limit(cgroup.Limits{MemoryBytes: limits.MemoryBytes, CPUMilli: limits.CPUMilli, Pids: limits.Pids}); err != nil {
		return nil, errors.Join(err, cg.Remove())
	}
	return cg, nil
}
