package api

import (
	"time"

	"github.com/migrate-hpc/migrate/job"
)

// DefaultMaxDowntime is the stand-still that a move keeps to unless told otherwise.
const DefaultMaxDowntime = 300 * time.Millisecond

// MoveOptions say how a move deals with memory that changes while it is sent.
type MoveOptions struct {
	// MaxDowntime is the longest stand-still that the forecast may show at the
	// freeze; 0 is DefaultMaxDowntime.
	MaxDowntime time.Duration `json:"max_downtime,omitempty"`
	Throttle    bool          `json:"throttle,omitempty"`  // slow the job down if it does not converge
	PostCopy    bool          `json:"post_copy,omitempty"` // commit first and pull the rest, if it does not converge
	Force       bool          `json:"force,omitempty"`     // take the stand-still, however long
	StopCopy    bool          `json:"stop_copy,omitempty"` // no warm-up
	Eager       bool          `json:"eager,omitempty"`     // restore by CRIU alone, which keeps copy-on-write sharing
	Verify      bool          `json:"verify,omitempty"`    // compare a hash of every page before the commit
	Bandwidth   int64         `json:"bandwidth,omitempty"` // bytes per second on the wire; 0 is no limit
}

// Mode is how the memory of a move got over.
type Mode string

// The modes.
const (
	PreCopy  Mode = "pre-copy"
	PostCopy Mode = "post-copy"
	StopCopy Mode = "stop-copy"
)

// Round is one warm-up round. Sizes are bytes, rates bytes per second.
type Round struct {
	Number    int           `json:"number"` // from 1
	Began     time.Time     `json:"began"`
	Took      time.Duration `json:"took"`
	Tracking  string        `json:"tracking"`  // soft-dirty or hash
	Looked    int64         `json:"looked"`    // memory that was read and compared
	Dirty     int64         `json:"dirty"`     // of it what was new or had changed
	Zero      int64         `json:"zero"`      // of that what was zero and took no room on the wire
	Duplicate int64         `json:"duplicate"` // of that what equalled a page sent before
	Wire      int64         `json:"wire"`      // sent, compressed
	DirtyRate float64       `json:"dirty_rate"`
	ReadRate  float64       `json:"read_rate"`
	WireRate  float64       `json:"wire_rate"`
	Forecast  time.Duration `json:"forecast"` // stand-still if the job were frozen now
	CPU       int64         `json:"cpu"`      // per cent of its cpu time that the job may use; 100 is no throttle
	Reason    string        `json:"reason"`   // why the warm-up went on, stopped, throttled or gave up
}

// Span is a phase of a move as it took place.
type Span struct {
	Phase Phase         `json:"phase"`
	Began time.Time     `json:"began"`
	Took  time.Duration `json:"took"`
}

// MoveRecord is what the source keeps of a move: `migrate inspect MOVE`,
// `migrate report MOVE`. Sizes are bytes.
type MoveRecord struct {
	Move       string        `json:"move"`
	Job        job.ID        `json:"job"`
	Name       string        `json:"name,omitempty"`
	UID        uint32        `json:"uid"` // the job's user
	From       string        `json:"from"`
	To         string        `json:"to"`
	Epoch      int64         `json:"epoch"`
	Options    MoveOptions   `json:"options"`
	Mode       Mode          `json:"mode"`
	Began      time.Time     `json:"began"`
	Took       time.Duration `json:"took"`
	Frozen     time.Time     `json:"frozen,omitzero"`  // when the stand-still began
	Resumed    time.Time     `json:"resumed,omitzero"` // and ended
	StoodStill time.Duration `json:"stood_still"`
	Phases     []Span        `json:"phases"`
	Rounds     []Round       `json:"rounds,omitempty"`
	Memory     int64         `json:"memory"`  // resident, at the start
	Read       int64         `json:"read"`    // of memory
	Residue    int64         `json:"residue"` // sent while the job stood still
	Pulled     int64         `json:"pulled"`  // sent after the commit
	Sent       int64         `json:"sent"`    // on the wire
	Lanes      int           `json:"lanes"`   // connections for data
	State      string        `json:"state"`   // moved, aborted, refused, in doubt, …
	Error      *Error        `json:"error,omitempty"`
}
