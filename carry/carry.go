package carry

import (
	"context"
	"io"
	"os"

	"github.com/migrate-hpc/migrate/affinity"
	"github.com/migrate-hpc/migrate/inject"
	"github.com/migrate-hpc/migrate/namespaces"
	"github.com/migrate-hpc/migrate/osthread"
	"github.com/migrate-hpc/migrate/pidmap"
	"github.com/migrate-hpc/migrate/stream"
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
	// Passing is a Check of what is over by itself, mostly in a moment. A preflight waits for that
	// a little, and so does the freeze, which also asks while the job is frozen.
	Passing func(init int) (*Obstacle, error)

	Source   func(Job) Source
	Receiver func() Receiver
	Restorer func(Env) Restorer
}

// Job is a job that leaves.
type Job struct {
	Init   int    // its PID 1, in our pid namespace
	UserNS bool   // it was given a user namespace of its own
	Dir    string // on a tmpfs, for notes: it outlives the agent, and goes with the job
	// Frozen is what [Job.Processes] returns of a frozen job; it may be nil, and return nil.
	Frozen func() []pidmap.Entry
	Images string // CRIU's, and what a resource puts beside them
	// Affinity says what is to become of threads that are bound to processors.
	Affinity affinity.Mode
}

// Processes lists the job's processes. Of a frozen job it is the list that the freeze has read.
func (j Job) Processes() ([]pidmap.Entry, error) {
	if j.Frozen != nil {
		if list := j.Frozen(); list != nil {
			return list, nil
		}
	}
	return pidmap.InNamespace(j.Init)
}

// CheckNamespaces fails if PID 1 has gone to namespaces of its own making. It may do so as
// long as it runs. What is then seen by its number is not the job's.
func (j Job) CheckNamespaces() error { return namespaces.CheckNamespaces(j.Init, j.UserNS) }

// Task is a process of the job.
type Task struct {
	VPID  stream.VPID
	PID   int    // in our pid namespace
	Began uint64 // see [pidmap.Entry]: another process may have the PID by now
}

// Source is the half that the agent of the source runs. The stages come in this order. Thaw
// may follow any of them, also in an agent that has restarted, which has called no other.
type Source interface {
	// Warm is a round of the warm-up: it sends on the lane what is new or has changed since the
	// round before. What the running job does meanwhile is no error.
	Warm(ctx context.Context, lane io.Writer, tasks []Task) (Round, error)
	// Look comes right before the freeze. The job runs.
	Look(ctx context.Context) error
	// Freeze comes when the job is frozen and CRIU has not begun. It returns what else is
	// external to CRIU.
	Freeze(ctx context.Context) (external []string, err error)
	// LastRound sends what has changed since the last warm-up. It comes when CRIU holds all
	// tasks, and goes on while CRIU dumps. If memory has the same lane, it comes after
	// FixImages.
	LastRound(ctx context.Context, lane io.Writer) (Round, error)
	// Snapshot comes when CRIU has written its images, and before it removes what it has made
	// in the job's file systems. LastRound may still go on.
	Snapshot(ctx context.Context) error
	// FixImages comes when CRIU has ended well.
	FixImages() error
	// Send sends what is left, when LastRound has ended and before the images go.
	Send(lane io.Writer) error
	// Thaw comes before the job runs on here. An error does not keep it from that.
	Thaw() error
	// Close lets go of the job, however that ended. Another stage may follow it.
	Close() error
}

// PageFinder is a [Source] of memory that CRIU writes into its images all the same. There the
// images refer to what the target has of it from the warm-up.
type PageFinder interface {
	// Empty tells that the target has nothing.
	Empty() bool
	// FindPage says where the target has such a page, after LastRound.
	FindPage(page []byte) (at stream.Place, found bool)
}

// NoSource does nothing at every stage. A half embeds it and has the stages that it needs.
type NoSource struct{}

func (NoSource) Warm(context.Context, io.Writer, []Task) (Round, error) { return Round{}, nil }
func (NoSource) Look(context.Context) error                             { return nil }
func (NoSource) Freeze(context.Context) ([]string, error)               { return nil, nil }
func (NoSource) LastRound(context.Context, io.Writer) (Round, error)    { return Round{}, nil }
func (NoSource) Snapshot(context.Context) error                         { return nil }
func (NoSource) FixImages() error                                       { return nil }
func (NoSource) Send(io.Writer) error                                   { return nil }
func (NoSource) Thaw() error                                            { return nil }
func (NoSource) Close() error                                           { return nil }

// Receiver is the half that the agent of the target runs while the job arrives.
type Receiver interface {
	// Kinds are those of the streams that are about the resource.
	Kinds() []uint16
	// Read reads such a stream to its end, and counts the bytes of its frames. It is called for
	// one stream at a time.
	Read(s *stream.Reader, count func(bytes int)) error
	// Complete comes when all but the memory of processes has arrived.
	Complete() error
	// Mounts are what has been built, by the path in the job, attached nowhere.
	Mounts() map[string]*os.File
	// Close closes them. Those that are attached nowhere vanish. A second call changes nothing.
	Close() error
}

// Env is where a job comes to.
type Env struct {
	Images string
	Work   string // on a tmpfs, for notes: it outlives the shim, and goes when the move has ended
	Root   string // of the job, on this node; "" for the node's own
	// Mounts are the external mounts: path in the job → path on this node. Those of the
	// table lead to a directory that is the resource's own.
	Mounts map[string]string
	User   osthread.User // of the job, on the node
	// Handover says that the job's copy on another node ends when this one is told to run.
	Handover bool
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
	// Parked comes when everything is restored and nothing has run.
	Parked() error
	// Commit comes when the job is about to run. It runs even after an error.
	Commit() error
	// Undo comes when the job will not run here, after any stage but Commit. Nothing that CRIU
	// has restored is left.
	Undo() error
	// Recover is an Undo by the agent, for a shim that was killed at any stage. It may come
	// more than once, and when there is nothing to undo.
	Recover() error
}

// Mender is a [Source] or a [Restorer] that has threads of the job stopped before they run on, and
// changes them from within. The source mends a job that runs on after a dump, the target one that
// was restored. Nothing of the job has run between the freeze and Mend.
type Mender interface {
	// Threads names the threads, by their numbers in the job. None is usual: to stop threads costs
	// time in which the job is frozen. On the target it comes after Parked, on the source before
	// Thaw, also in an agent that has restarted.
	Threads() []int
	// Mend gets those that have not ended. After an error the job runs on as it is.
	Mend(threads map[int]*inject.Thread) error
}

// Waiter is a [Restorer] that waits for what only the end of the copy on the source sets free.
type Waiter interface {
	// Waits tells, after Parked, whether there is something to wait for.
	Waits() bool
	// Wait comes when the job has been told to run. CRIU has let go of it, it is frozen, and nothing
	// of it has run. After an error it is ended.
	Wait(ctx context.Context) error
}

// NoRestorer does nothing at every stage, as [NoSource] does.
type NoRestorer struct{}

func (NoRestorer) Prepare() error            { return nil }
func (NoRestorer) NamespacesMade(int) error  { return nil }
func (NoRestorer) NamespacesReady(int) error { return nil }
func (NoRestorer) Parked() error             { return nil }
func (NoRestorer) Commit() error             { return nil }
func (NoRestorer) Undo() error               { return nil }
func (NoRestorer) Recover() error            { return nil }
