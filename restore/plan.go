package restore

import (
	"context"
	"path/filepath"
	"time"

	"github.com/migrate-hpc/migrate/carry"
	"github.com/migrate-hpc/migrate/identity"
	"github.com/migrate-hpc/migrate/namespaces"
	"github.com/migrate-hpc/migrate/namespaces/network"
	"github.com/migrate-hpc/migrate/restore/pagestore"
)

// Plan says what is restored, and where.
type Plan struct {
	Images     string                `json:"images"` // CRIU's images
	Store      string                `json:"store"`  // the page store
	Work       string                `json:"work"`   // for CRIU's log and the lazy-pages socket
	RestoreEnv namespaces.RestoreEnv `json:"chamber"`
	// Rule is what the identity of the job's threads may be. Recorded says that the images must hold
	// the source's record of it. Of an older source, only the images themselves are compared.
	Rule     identity.Rule `json:"rule"`
	Recorded bool          `json:"recorded,omitempty"`
	// Mounts are the external mounts: key → path on this node.
	Mounts map[string]string `json:"mounts"`
	// Binds are those of Mounts whose path a user may change, by Target. CRIU gets what
	// RestoreEnv.User reaches by it.
	Binds []Bind `json:"binds,omitempty"`
	// Private are the job's private file systems, with their content, as [Receiver.Mounts] has them.
	Private []Mount `json:"private,omitempty"`
	// Interface is the job's network interface, nil for none.
	Interface *network.Interface `json:"interface,omitempty"`
	TCP       bool               `json:"tcp,omitempty"`
	// Handover says that the copy on the source ends when this one is told to run.
	Handover bool `json:"handover,omitempty"`
	// Prestarted is a CRIU that waits in RestoreEnv, nil if there is none. Park uses it up.
	Prestarted *PrestartedCRIU `json:"-"`
	// Follower has read the log of Store so far; it may be nil. Open uses it up.
	Follower *pagestore.Follower `json:"-"`
}

// Mount is a detached mount, and where CRIU finds it.
type Mount struct {
	Path string `json:"path"` // of a descriptor of it, /proc/PID/fd/N, that stays open until Park returns
	Dir  string `json:"dir"`
}

// Bind is a mount of the node, and where CRIU finds it.
type Bind struct {
	namespaces.Mount
	Dir string `json:"dir"`
}

// env is what the resources that CRIU does not carry are told of it.
func (plan Plan) env() carry.Env {
	return carry.Env{Images: plan.Images, Work: plan.Work, Root: plan.RestoreEnv.Root, Mounts: plan.Mounts, User: plan.RestoreEnv.User, Handover: plan.Handover}
}

func (plan Plan) log() string { return filepath.Join(plan.Work, "restore.log") }

// sweepTime is long enough for SIGKILL to end any task.
const sweepTime = 10 * time.Second

// sweep kills what a killed CRIU has left in the job's cgroup. It comes before the end of the
// fault server, so that no task reads a wrong page.
func (plan Plan) sweep() error {
	ctx, cancel := context.WithTimeout(context.Background(), sweepTime)
	defer cancel()
	return plan.RestoreEnv.Cgroup.Kill(ctx)
}
