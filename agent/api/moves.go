package api

import (
	"time"

	"github.com/migrate-hpc/migrate/job"
)

// DefaultMaxDowntime is the downtime that a move keeps to unless told otherwise.
const DefaultMaxDowntime = 300 * time.Millisecond

// MoveOptions say how a move deals with memory that changes while it is sent.
type MoveOptions struct {
	// MaxDowntime is the longest downtime that the forecast may show at the
	// freeze; 0 is DefaultMaxDowntime.
	MaxDowntime time.Duration `json:"max_downtime,omitempty"`
	Throttle    bool          `json:"throttle,omitempty"`  // slow the job down if it does not converge
	PostCopy    bool          `json:"post_copy,omitempty"` // commit first and pull the rest, if it does not converge
	Force       bool          `json:"force,omitempty"`     // take any downtime
	StopCopy    bool          `json:"stop_copy,omitempty"` // no warm-up
	Eager       bool          `json:"eager,omitempty"`     // restore by CRIU alone, which keeps copy-on-write sharing
	Verify      bool          `json:"verify,omitempty"`    // compare a hash of every page before the commit
	Bandwidth   int64         `json:"bandwidth,omitempty"` // bytes per second on the wire; 0 is no limit
}

// Mode is how the memory of a move got over.
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
	Zero      int64         `json:"zero"`      // of that what was zero and took no room on the wire
	Duplicate int64         `json:"duplicate"` // of that what equalled a page sent before
	Wire      int64         `json:"wire"`      // sent, compressed
	DirtyRate float64       `json:"dirty_rate"`
	ReadRate  float64       `json:"read_rate"`
	WireRate  float64       `json:"wire_rate"`
	Forecast  time.Duration `json:"forecast"` // downtime if the job were frozen now
	CPU       int64         `json:"cpu"`      // per cent of its cpu time that the job may use; 100 is no throttle
	Reason    string        `json:"reason"`   // why the warm-up went on, stopped, throttled or gave up
}

// Phase of a move or checkpoint, in the words of the project.
type Phase string

// The phases, in order.
const (
	PhaseQueue     Phase = "queue" // for other moves of the node; the note tells for how many
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

// Span is a phase of a move as it took place.
type Span struct {
	Phase Phase         `json:"phase"`
	Began time.Time     `json:"began"`
	Took  time.Duration `json:"took"`
}

// MoveState is how a move is getting on, or how it ended.
type MoveState string

// The states of a move as its users see it.
const (
	MoveUnderWay  MoveState = "under way"
	MoveWaiting   MoveState = "waiting" // for the other node, or for an operator
	MoveDone      MoveState = "moved"
	MoveAborted   MoveState = "aborted"   // the job runs on where it was
	MoveRefused   MoveState = "refused"   // before anything was touched
	MoveCancelled MoveState = "cancelled" // by its user; the job runs on where it was
	MoveFailed    MoveState = "failed"    // before anything was touched
	MoveUnknown   MoveState = "not known" // the node that knows does not answer
)

// MoveStep is a line of a node's journal.
type MoveStep struct {
	Node  string    `json:"node"`
	Role  string    `json:"role"` // source or target
	State string    `json:"state"`
	At    time.Time `json:"at"`
	Note  string    `json:"note,omitempty"`
}

// MoveRecord is what the source keeps of a move: `migrate inspect MOVE`,
// `migrate report MOVE`. Sizes are bytes.
type MoveRecord struct {
	Move     string        `json:"move"`
	Job      job.ID        `json:"job"`
	Name     string        `json:"name,omitempty"`
	UID      uint32        `json:"uid"` // the job's user
	From     string        `json:"from"`
	To       string        `json:"to"`
	Epoch    int64         `json:"epoch"`
	Options  MoveOptions   `json:"options"`
	Mode     Mode          `json:"mode,omitempty"`
	Began    time.Time     `json:"began"`
	Took     time.Duration `json:"took"`
	Frozen   time.Time     `json:"frozen,omitzero"`  // when the downtime began
	Resumed  time.Time     `json:"resumed,omitzero"` // and ended, there or, after an abort, here
	Downtime time.Duration `json:"downtime"`
	Phases   []Span        `json:"phases,omitempty"`
	Rounds   []Round       `json:"rounds,omitempty"`
	Memory   int64         `json:"memory"` // resident, at the start
	// CopyOnWrite is what the job's processes save by sharing it. After the move they
	// have copies, unless it was eager.
	CopyOnWrite int64     `json:"copy_on_write,omitempty"`
	Read        int64     `json:"read"`    // of memory
	Residue     int64     `json:"residue"` // of that on the wire, sent while the job was frozen
	Pulled      int64     `json:"pulled"`  // sent after the commit
	Sent        int64     `json:"sent"`    // on the wire
	Lanes       int       `json:"lanes"`   // connections for data
	State       MoveState `json:"state"`
	Error       *Error    `json:"error,omitempty"`
	// CleanupLeft says what could not be cleaned up on the source.
	CleanupLeft string `json:"cleanup_left,omitempty"`

	// What the agent that answers adds.
	Steps   []MoveStep `json:"steps,omitempty"`    // of the journals, oldest first
	WaitFor string     `json:"wait_for,omitempty"` // what an unfinished move waits for
	// Partial says why there is no more than this: what the journal has.
	Partial string `json:"partial,omitempty"`
}

// Decision is an operator's word about a move.
type Decision string

// The decisions.
const (
	DecisionTake   Decision = "take=true"   // the copy on the agent's node is the job
	DecisionDrop   Decision = "take=false"  // it is not
	DecisionForget Decision = "forget=true" // the agent's journal cannot be read, and guards no job any more
)

// ResolvePlan is what an operator's decision about a move does, and after it what it
// did.
type ResolvePlan struct {
	Move  string   `json:"move"`
	Job   job.ID   `json:"job"`
	Node  string   `json:"node"` // that decides
	Peer  string   `json:"peer"`
	Take  bool     `json:"take"`
	State string   `json:"state"` // of the journal
	Why   string   `json:"why"`   // it cannot decide itself
	Does  []string `json:"does"`
	Vouch []string `json:"vouch"` // what the operator answers for
	// Where the job is now, and whether the peer has yet to be told; after the
	// decision.
	Where      string `json:"where,omitempty"`
	PeerToTell bool   `json:"untold,omitempty"`
	// Forget says that a journal which cannot be read is set aside, as File.
	Forget bool   `json:"forget,omitempty"`
	File   string `json:"file,omitempty"`
}

// MoveSummary is a line of `migrate moves`: what one node knows of a move.
type MoveSummary struct {
	Move     string    `json:"move"`
	Job      job.ID    `json:"job"`
	Name     string    `json:"name,omitempty"`
	Node     string    `json:"node"` // that says so
	Role     string    `json:"role"` // source or target; checkpoint, restore
	Peer     string    `json:"peer"` // the other node, or the directory
	Epoch    int64     `json:"epoch"`
	State    string    `json:"state"` // of the journal; that of the record where there is no journal
	Since    time.Time `json:"since"`
	Finished bool      `json:"finished"`
	WaitFor  string    `json:"wait_for,omitempty"`
	Note     string    `json:"note,omitempty"` // why it ended as it did
}
