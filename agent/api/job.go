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
	// SuspendedIn is the cgroup that another program has frozen.
	SuspendedIn string `json:"suspended_in,omitempty"`
	// Tasks is the number of processes of a job that is astray or whose record is damaged.
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
	// Obstacles are what keeps the job on this node as the node is; only in the answer to its start.
	Obstacles []Finding `json:"obstacles,omitempty"`
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
