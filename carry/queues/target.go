package queues

import (
	"os"

	"github.com/migrate-hpc/migrate/carry"
	"github.com/migrate-hpc/migrate/mqueue"
)

type restorer struct {
	carry.NoRestorer
	images, dir string
}

// NewRestorer is the half of the job's shim.
func NewRestorer(e carry.Env) carry.Restorer {
	return &restorer{images: e.Images, dir: e.Mounts[mqueue.Dir]}
}

// Prepare makes the directory that the queues are mounted at.
func (r *restorer) Prepare() error { return os.MkdirAll(r.dir, 0o711) }

// NamespacesMade mounts the queues of the new ipc namespace in time for CRIU to bind them.
func (r *restorer) NamespacesMade(init int) error { return mqueue.Mount(init, r.dir) }

// NamespacesReady makes the queues, now that the limits are set and nothing is opened yet.
func (r *restorer) NamespacesReady(init int) error {
	queues, err := read(r.images)
	if err != nil {
		return err
	}
	return mqueue.Make(init, queues)
}
