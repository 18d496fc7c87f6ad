package carry

import (
	"context"

	"github.com/migrate-hpc/migrate/namespaces"
	"github.com/migrate-hpc/migrate/osthread"
)

// Resource is a row of the table. What a resource does not need is zero.
type Resource struct {
	Name string
	// Mounts are where every job has the resource mounted. To CRIU they are external.
	Mounts []string
	// Magic tells a file system of the kernel, as statfs(2) has it. A file on it is the
	// resource, and no file of the node.
	Magic int64
	// Check finds what a running job with this PID 1 has of the resource and cannot take
	// along. It touches nothing.
	Check func(init int) (*Obstacle, error)

	Source   func(Job) Source
	Restorer func(Env) Restorer
}

// Job is a job that leaves.
type Job struct {
	Init   int    // its PID 1, in our pid namespace
	UserNS bool   // it was given a user namespace of its own
	Dir    string // on a tmpfs, for notes: it outlives the agent, and goes with the job
	Images string // CRIU's, and what a resource puts beside them
}

// CheckNamespaces fails if PID 1 has gone to namespaces of its own making. It may do so as
// long as it runs. What is then seen by its number is not the job's.
func (j Job) CheckNamespaces() error { return namespaces.CheckNamespaces(j.Init, j.UserNS) }

// Source is the half that the agent of the source runs. The stages come in this order. Thaw
// may follow any of them, also in an agent that has restarted, which has called no other.
type Source interface {
	// Freeze comes when the job is frozen and CRIU has not begun. It returns what else is
	// external to CRIU.
	Freeze(ctx context.Context) (external []string, err error)
	// FixImages comes when CRIU has ended well.
	FixImages() error
	// Thaw comes before the job runs on here. An error does not keep it from that.
	Thaw() error
}

// NoSource does nothing at every stage. A half embeds it and has the stages that it needs.
type NoSource struct{}

func (NoSource) Freeze(context.Context) ([]string, error) { return nil, nil }
func (NoSource) FixImages() error                         { return nil }
func (NoSource) Thaw() error                              { return nil }

// Env is where a job comes to.
type Env struct {
	Images string
	// Mounts are the external mounts: path in the job → path on this node. Those of the
	// table lead to a directory that is the resource's own.
	Mounts map[string]string
	User   osthread.User // of the job, on the node
}

// Restorer is the half that the job's shim runs around CRIU's restore. The stages come in
// this order.
type Restorer interface {
	// Prepare comes before CRIU begins.
	Prepare() error
	// NamespacesMade comes when the job's namespaces exist and CRIU has mounted nothing in
	// them. init is its PID 1.
	NamespacesMade(init int) error
	// NamespacesReady comes when the namespaces are set up and CRIU has opened nothing in them.
	NamespacesReady(init int) error
}

// NoRestorer does nothing at every stage, as [NoSource] does.
type NoRestorer struct{}

func (NoRestorer) Prepare() error            { return nil }
func (NoRestorer) NamespacesMade(int) error  { return nil }
func (NoRestorer) NamespacesReady(int) error { return nil }
