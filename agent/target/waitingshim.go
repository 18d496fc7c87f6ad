package target

import (
	"github.com/migrate-hpc/migrate/namespaces/cgroup"
	"github.com/migrate-hpc/migrate/shim"
)

// waitingShim is what a restore starts from: a cgroup of the job's own, and a shim that waits.
type waitingShim struct {
	cgroup *cgroup.Cgroup
	cfg    shim.Config
	client *shim.Client
}
