package api

import (
	"time"

	"github.com/migrate-hpc/migrate/job"
)

// Phase of a move, checkpoint or restore.
type Phase string

// The phases, in order.
const (
	PhaseQueue     Phase = "queue" // behind other moves of the node; the note has their number
	PhasePreflight Phase = "preflight"
	PhaseWarmup    Phase = "warm-up"
	PhaseFreeze    Phase = "freeze"
	PhaseDump      Phase = "dump"
	PhaseResidue   Phase = "residue"
	PhasePark      Phase = "park"
	PhaseCommit    Phase = "commit"
	PhaseResume    Phase = "resume"
	PhasePull      Phase = "pull"
	PhaseRelease   Phase = "release"
	PhaseAbort     Phase = "abort"
)

// Mode is how a move sent the memory.
type Mode string

// The modes.
const (
	ModePreCopy  Mode = "pre-copy"
	ModePostCopy Mode = "post-copy"
	ModeStopCopy Mode = "stop-copy"
)

// Round is one warm-up round. Sizes are bytes, rates bytes per second.
type Round struct {
	Number    int           `json:"number"` // from 1
	Began     time.Time     `json:"began"`
	Took      time.Duration `json:"took"`
	Tracking  string        `json:"tracking"`  // soft-dirty or hash
	Scanned   int64         `json:"looked"`    // memory that was read and compared
	Dirty     int64         `json:"dirty"`     // of it what was new or had changed
	Zero      int64         `json:"zero"`      // of that: zero pages, which are not sent
	Duplicate int64         `json:"duplicate"` // of that: pages that equal one sent before
	Wire      int64         `json:"wire"`      // sent, compressed
	DirtyRate float64       `json:"dirty_rate"`
	ReadRate  float64       `json:"read_rate"`
	WireRate  float64       `json:"wire_rate"`
	Forecast  time.Duration `json:"forecast"` // downtime if the job were frozen now
	CPU       int64         `json:"cpu"`      // per cent of its cpu time that the job may use; 100 is no throttle
	Reason    string        `json:"reason"`   // why the warm-up went on, stopped, throttled or gave up
}

// Event is the progress of a move, checkpoint or restore. Sizes are bytes.
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

// Result is the outcome of a move, checkpoint or restore.
type Result struct {
	Job  job.ID `json:"job"`
	Move string `json:"move,omitempty"`
	Node string `json:"node"`          // where the job runs now
	Dir  string `json:"dir,omitempty"` // of a checkpoint
	// Verified says that the checkpoint was restored, and that dropped, to see that it can be.
	Verified bool `json:"verified,omitempty"`

	Epoch int64 `json:"epoch"`

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
