package handoff

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/migrate-hpc/migrate/procfs"
)

// MoveID names one attempt to move a job: "m" and 16 hex digits.
type MoveID string

const moveDigits = 16

// NewMoveID returns an id that no other move has.
func NewMoveID() MoveID {
	var b [moveDigits / 2]byte
	rand.Read(b[:]) // never fails since Go 1.24
	return MoveID("m" + hex.EncodeToString(b[:]))
}

// ParseMoveID checks an id that a user or a peer named; what it lets pass is safe as a file name.
func ParseMoveID(s string) (MoveID, error) {
	if len(s) != 1+moveDigits || s[0] != 'm' || strings.Trim(s[1:], "0123456789abcdef") != "" {
		return "", fmt.Errorf("%.40q is no move id: an id is m and %d hex digits", s, moveDigits)
	}
	return MoveID(s), nil
}

// Role is a node's part in a move.
type Role string

// The two roles.
const (
	RoleSource Role = "source" // the job leaves this node
	RoleTarget Role = "target" // the job comes to this node
)

// Kind is what a move is for.
type Kind string

// The kinds. A checkpoint has a source's half only and a restore a target's; the other side of both is
// a store of checkpoints, and the peer is the node itself.
const (
	KindMove       Kind = "move"       // from node to node
	KindCheckpoint Kind = "checkpoint" // the job leaves for a store
	KindRestore    Kind = "restore"    // the job comes out of one
)

// possible are the kinds of move in which a node has a role.
var possible = map[Role][]Kind{
	RoleSource: {KindMove, KindCheckpoint},
	RoleTarget: {KindMove, KindRestore},
}

// State is how far a node is with a move. Committed belongs to both roles.
type State string

// The states; doc.go draws the transitions.
const (
	StateNew       State = "new" // no record yet
	StateFrozen    State = "frozen"
	StateCommitted State = "committed"
	StateAborting  State = "aborting" // decided against; the job is about to be thawed
	StateAborted   State = "aborted"
	StateReleased  State = "released"

	StateReceiving State = "receiving"
	StatePrepared  State = "prepared" // the copy is whole and parked
	StateDone      State = "done"     // the job runs here
	StateDropped   State = "dropped"  // the copy is gone and never ran
)

// StateTaken is no state of a journal, but an answer (Journal.Answer): the source is aborting or has
// aborted because an operator decided so, whatever the target has recorded.
const StateTaken State = "taken"

// recorded are the states that a journal can hold.
var recorded = map[Role][]State{
	RoleSource: {StateFrozen, StateCommitted, StateAborting, StateAborted, StateReleased},
	RoleTarget: {StateReceiving, StatePrepared, StateCommitted, StateDone, StateDropped},
}

// Finished tells whether nothing is left to do in this state.
func (s State) Finished() bool {
	switch s {
	case StateReleased, StateAborted, StateDone, StateDropped:
		return true
	}
	return false
}

// Record is one line of the journal: what this node knows about a move.
type Record struct {
	Move     MoveID    `json:"move"`
	Kind     Kind      `json:"kind"`
	Job      string    `json:"job"`
	Role     Role      `json:"role"`
	Peer     string    `json:"peer"`                // node name of the other side
	PeerAddr string    `json:"peer_addr,omitempty"` // host:port of its agent
	Epoch    int64     `json:"epoch"`               // of this attempt, above all earlier ones of the job
	State    State     `json:"state"`
	At       time.Time `json:"at"`      // set by Journal.Append
	BootID   string    `json:"boot_id"` // the boot of this node in which its copy of the job lives
	Note     string    `json:"note,omitempty"`

	Extra json.RawMessage `json:"extra,omitempty"` // of the caller, kept as it is

	// Since is, for the first record, a time before which no move of the job can have left
	// a record on this node; zero is not known. See Journal.Guard.
	Since time.Time `json:"-"`

	// Taken says that an operator decided that the copy on this node is the job.
	// PeerToTell says that the other node has not heard of it yet.
	Taken      bool `json:"taken,omitempty"`
	PeerToTell bool `json:"untold,omitempty"`
}

// Bounds of what a record names.
const (
	MaxRecord = 256 << 10 // bytes of JSON
	maxNote   = 4 << 10
	maxName   = 256
)

// check refuses a record that could not be read again or would name a file elsewhere.
func (r Record) check() error {
	if _, err := ParseMoveID(string(r.Move)); err != nil {
		return err
	}
	switch {
	case !slices.Contains(recorded[r.Role], r.State):
		return fmt.Errorf("move %s: %.40q is no state of a %.40q", r.Move, r.State, r.Role)
	case !slices.Contains(possible[r.Role], r.Kind):
		return fmt.Errorf("move %s: %.40q is no kind of move that has a %.40q", r.Move, r.Kind, r.Role)
	case r.Job == "" || len(r.Job) > maxName || r.Peer == "" || len(r.Peer) > maxName:
		return fmt.Errorf("move %s: job or peer has no name, or one above %d bytes", r.Move, maxName)
	case !utf8.ValidString(r.Job + r.Peer + r.PeerAddr + r.BootID + r.Note):
		return fmt.Errorf("move %s: a name or note is not UTF-8 and would change in the journal", r.Move)
	case r.Epoch < 1:
		return fmt.Errorf("move %s: epoch %d is below 1", r.Move, r.Epoch)
	case r.BootID == "":
		return fmt.Errorf("move %s: no boot id", r.Move)
	}
	return nil
}

// note keeps the reason of an ending in the record, without letting it grow over retries.
func (r *Record) note(err error) {
	text := err.Error()
	if strings.Contains(r.Note, text) {
		return
	}
	if r.Note != "" {
		text = r.Note + "; " + text
	}
	r.Note = strings.ToValidUTF8(text[:min(len(text), maxNote)], "")
}

// BootID returns the id of the running boot of this node, random(4). Frozen and parked copies of a
// job do not outlive it.
func BootID() (string, error) { return procfs.BootID() }
