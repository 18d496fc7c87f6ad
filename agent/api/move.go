package api

import (
	"time"

	"github.com/migrate-hpc/migrate/affinity"
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
	// Affinity says what becomes of threads that are bound to processors; "" is affinity.Map.
	Affinity affinity.Mode `json:"affinity,omitempty"`
}

// Span is a phase of a move as it took place.
type Span struct {
	Phase Phase         `json:"phase"`
	Began time.Time     `json:"began"`
	Took  time.Duration `json:"took"`
}

// MoveState is the progress of a move, or its end.
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
	CopyOnWrite int64 `json:"copy_on_write,omitempty"`
	Read        int64 `json:"read"`    // of memory
	Residue     int64 `json:"residue"` // of that on the wire, sent while the job was frozen
	Pulled      int64 `json:"pulled"`  // sent after the commit
	Sent        int64 `json:"sent"`    // on the wire
	Lanes       int   `json:"lanes"`   // connections for data
	// Affinity says what becomes of threads that are bound to processors, "" if there are none.
	Affinity string    `json:"affinity,omitempty"`
	State    MoveState `json:"state"`
	Error    *Error    `json:"error,omitempty"`
	// CleanupLeft says what could not be cleaned up on the source.
	CleanupLeft string `json:"cleanup_left,omitempty"`

	// What the agent that answers adds.
	Steps   []MoveStep `json:"steps,omitempty"`    // of the journals, oldest first
	WaitFor string     `json:"wait_for,omitempty"` // what an unfinished move waits for
	// Partial says why there is no more than this: what the journal has.
	Partial string `json:"partial,omitempty"`
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

// MoveRequest moves a job. Node is a node's name; Addr, host:port, is needed
// only if the agent does not know it.
type MoveRequest struct {
	Node string `json:"node"`
	Addr string `json:"addr,omitempty"`
	// Connections for data; 0 lets the agent choose.
	Connections int `json:"connections,omitempty"`
	MoveOptions
}
