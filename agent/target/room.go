package target

import (
	"github.com/migrate-hpc/migrate/namespaces/cgroup"
	"github.com/migrate-hpc/migrate/shim"
)

// waitingShim is what a copy needs before anything of it can be restored: a cgroup of the
// job's own, and a shim that waits.
type waitingShim struct {
	cgroup *cgroup.Cgroup
	cfg    shim.Config
	client *shim.Client
}
