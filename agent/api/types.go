package api

import (
	"time"

	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/pidmap"
)

// RunRequest starts a job.
type RunRequest struct {
	Spec job.Spec `json:"spec"`
	// Foreground puts the job beneath the caller's own cgroup, which the
	// caller's scheduler accounts, limits and kills.
	Foreground bool `json:"foreground,omitempty"`
}

// JobState is a job as its users see it. It is computed, never stored.
type JobState string

// The states of a job.
const (
	JobRunning   JobState = "running"
	JobFrozen    JobState = "frozen"    // on its way to another node
	JobSuspended JobState = "suspended" // frozen, and not by migrate
	JobArriving  JobState = "arriving"
	JobMoved     JobState = "moved"
	JobExited    JobState = "exited"
	JobSaved     JobState = "saved"   // rests in a directory
	JobLost      JobState = "lost"    // the node restarted, or its shim was killed, under the job
	JobAstray    JobState = "astray"  // it runs, and its shim was killed or cannot be found
	JobDamaged   JobState = "damaged" // its record cannot be read
)

// Job is what an agent says about a job.
type Job struct {
	job.Record
	Node  string   `json:"node"` // the agent that answers
	State JobState `json:"state"`

	// What the kernel says; only of a job that is here, in GET /v1/jobs/JOB.
	Init       int               `json:"init,omitempty"` // pid of PID 1 on the node
	Shim       int               `json:"shim,omitempty"`
	Pids       []pidmap.Entry    `json:"pids,omitempty"`
	Namespaces map[string]string `json:"namespaces,omitempty"`
	Clocks     *Clocks           `json:"clocks,omitempty"`
	CgroupDir  string            `json:"cgroup_dir,omitempty"`
	// SuspendedIn is the cgroup that somebody has frozen.
	SuspendedIn string `json:"suspended_in,omitempty"`
	// Tasks is how many processes there are of a job that is astray or whose record is damaged.
	Tasks int `json:"tasks,omitempty"`
	// Problem is why the record cannot be read.
	Problem string `json:"problem,omitempty"`
	// Caught is the set of signals that PID 1 handles or blocks, bit n-1 for signal
	// n: SigCgt and SigBlk of proc_pid_status(5). The kernel drops all others but
	// SIGKILL and SIGSTOP, since it protects the PID 1 of a namespace.
	Caught *uint64       `json:"caught,omitempty"`
	CPU    time.Duration `json:"cpu,omitempty"`    // over all nodes so far
	Memory int64         `json:"memory,omitempty"` // resident, bytes
	// Filled is below Total while memory of a restored job is still being put in
	// place, in bytes.
	Filled int64 `json:"filled,omitempty"`
	Total  int64 `json:"total,omitempty"`
	// Absent is how much of the total has still to come from the node PulledFrom.
	Absent     int64  `json:"absent,omitempty"`
	PulledFrom string `json:"pulled_from,omitempty"`
}

// Clocks are readings inside the job, in nanoseconds, and the offsets of its
// time namespace to the node's clocks.
type Clocks struct {
	Monotonic       time.Duration `json:"monotonic"`
	Boottime        time.Duration `json:"boottime"`
	MonotonicOffset time.Duration `json:"monotonic_offset"`
	BoottimeOffset  time.Duration `json:"boottime_offset"`
}

// SignalRequest sends a signal to the job's PID 1, by number.
type SignalRequest struct {
	Signal int `json:"signal"`
}

// MoveRequest moves a job. Node is a node's name; Addr, host:port, is needed
// only if the agent does not know it.
type MoveRequest struct {
	Node string `json:"node"`
	Addr string `json:"addr,omitempty"`
	// Connections for data; 0 lets the agent choose.
	Connections int `json:"connections,omitempty"`
	MoveOptions
}

// CheckpointRequest saves a job into a directory of the agent's node.
type CheckpointRequest struct {
	Dir          string `json:"dir"`
	LeaveRunning bool   `json:"leave_running,omitempty"`
}

// RestoreRequest starts a job from such a directory.
type RestoreRequest struct {
	Dir        string `json:"dir"`
	Foreground bool   `json:"foreground,omitempty"`
	Clock      string `json:"clock,omitempty"` // continuous (default) or elapsed
	// DeclaredDead are nodes that cannot be asked and, by root's word, do not run the job.
	DeclaredDead []string `json:"declared_dead,omitempty"`
}

// Event tells how a move, checkpoint or restore gets on. Sizes are bytes.
type Event struct {
	At    time.Time `json:"at"`
	Move  string    `json:"move,omitempty"`
	Job   job.ID    `json:"job,omitempty"`
	Phase Phase     `json:"phase,omitempty"`
	Read  int64     `json:"read,omitempty"` // of memory so far
	Total int64     `json:"total,omitempty"`
	Sent  int64     `json:"sent,omitempty"` // on the wire so far
	// Pulled is the memory that was sent because the target lacked it.
	Pulled int64  `json:"pulled,omitempty"`
	Note   string `json:"note,omitempty"`
	// LowPriority says that the processors of the node are busy: the warm-up has a tenth of
	// their time, the jobs have the rest.
	LowPriority bool   `json:"takes_turns,omitempty"`
	Round       *Round `json:"round,omitempty"` // the warm-up round that has just ended

	Done  *Result `json:"done,omitempty"`
	Error *Error  `json:"error,omitempty"`
}

// Result is how a move, checkpoint or restore went.
type Result struct {
	Job   job.ID `json:"job"`
	Move  string `json:"move,omitempty"`
	Node  string `json:"node"`          // where the job runs now
	Dir   string `json:"dir,omitempty"` // of a checkpoint
	Epoch int64  `json:"epoch"`

	Downtime time.Duration           `json:"downtime"` // freeze to resume, as the source saw it
	Took     time.Duration           `json:"took"`
	Phases   map[Phase]time.Duration `json:"phases"`
	Read     int64                   `json:"read"`             // bytes of memory
	Sent     int64                   `json:"sent"`             // bytes on the wire, or in the directory
	Pulled   int64                   `json:"pulled,omitempty"` // of memory, after the freeze, because the target asked for it
	Mode     Mode                    `json:"mode,omitempty"`
	Rounds   []Round                 `json:"rounds,omitempty"`
	// CleanupLeft says what could not be cleaned up; the job is not affected.
	CleanupLeft string `json:"cleanup_left,omitempty"`
}

// Node is what an agent says about itself.
type Node struct {
	Node    string `json:"node"`
	Version string `json:"version"`
	CRIU    string `json:"criu"`
	Kernel  string `json:"kernel"`
	Listen  string `json:"listen"`
}
