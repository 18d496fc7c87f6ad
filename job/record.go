package job

import (
	"fmt"
	"time"

	"github.com/migrate-hpc/migrate/exactjson"
)

// Format is the version of record.json that this package writes, and the newest that it reads.
const Format = 1

// Record is all that is known about a job beyond what the kernel knows. It travels with the job.
type Record struct {
	Format     int       `json:"format"`           // set by Store
	CRC        string    `json:"crc32c,omitempty"` // of the file; set and checked by Store
	ID         ID        `json:"id"`
	Spec       Spec      `json:"spec"`
	Epoch      int64     `json:"epoch"` // of the last attempt to move it; 0 = never tried
	Created    time.Time `json:"created"`
	Foreground bool      `json:"foreground,omitempty"` // somebody waits for it, and it lives in their cgroup

	// Cgroup is the job's cgroup on this node: controller, "unified" for v2, to its directory.
	Cgroup map[string]string `json:"cgroup,omitempty"`

	// Mounts are the node's mounts that the job has seen at the same path since it started; a node
	// that it comes to must have them.
	Mounts []Bind `json:"mounts,omitempty"`

	MovedTo  *Moved `json:"moved_to,omitempty"`  // the job has left this node; with an Exit it has ended there
	Exit     *Exit  `json:"exit,omitempty"`      // the job is over
	SavedIn  string `json:"saved_in,omitempty"`  // the directory that the job rests in; it does not run
	FromMove string `json:"from_move,omitempty"` // the move that brought it here
	Sealed   string `json:"sealed,omitempty"`    // the last checkpoint, by its move, that was whole and on the disk

	// Superseded says where another copy of the job was brought back under a later epoch, while this
	// node was taken for dead; the one here was ended for that, with an Exit.
	Superseded *Moved `json:"superseded,omitempty"`

	CPUBefore  time.Duration `json:"cpu_before,omitempty"` // used on earlier nodes
	Placements []Placement   `json:"stays,omitempty"`      // where it has been, oldest first
}

// Moved says where a job went.
type Moved struct {
	Node  string    `json:"node"`
	Addr  string    `json:"addr"` // host:port of the node's agent
	Epoch int64     `json:"epoch"`
	At    time.Time `json:"at"`
}

// Exit says how a job ended. Signal is 0 when it returned Code by itself. Reason is why it was
// ended, if not by itself or by its user.
type Exit struct {
	Code   int    `json:"code"`
	Signal int    `json:"signal,omitempty"`
	Reason string `json:"reason,omitempty"`
	// OOMKills is how many of its processes the kernel killed for want of memory, on the last node.
	OOMKills int64         `json:"oom_kills,omitempty"`
	At       time.Time     `json:"at"`
	CPU      time.Duration `json:"cpu"` // user and system time over all nodes
}

// Placement is the time that a job spent on a node. To is zero while it is there.
type Placement struct {
	Node  string    `json:"node"`
	From  time.Time `json:"from"`
	To    time.Time `json:"to,omitzero"`
	Epoch int64     `json:"epoch"`
}

// Here tells whether the job is on this node and not over.
func (r Record) Here() bool { return r.MovedTo == nil && r.Exit == nil && r.SavedIn == "" }

// MaxRecord bounds the size of a record in JSON, in bytes.
const MaxRecord = 8 << 20

// ParseRecord decodes a record that a peer sent and checks all of it, the specification included.
func ParseRecord(data []byte) (Record, error) {
	r, err := decode(data)
	if err != nil {
		return Record{}, err
	}
	if err := r.Validate(); err != nil {
		return Record{}, fmt.Errorf("job record %s: %w", r.ID, err)
	}
	return r, nil
}

// decode leaves the specification unchecked: a job that this node has accepted must stay visible
// even if a later version of Validate would refuse it.
func decode(data []byte) (Record, error) {
	var r Record
	if len(data) > MaxRecord {
		return r, fmt.Errorf("job record: %d bytes, above %d", len(data), MaxRecord)
	}
	if err := exactjson.Unmarshal(data, &r); err != nil {
		return Record{}, fmt.Errorf("job record: %w", err)
	}
	if r.Format < 1 || r.Format > Format {
		return Record{}, fmt.Errorf("job record: format %d, and this migrate reads 1 to %d: update it on this node", r.Format, Format)
	}
	if _, err := ParseID(string(r.ID)); err != nil {
		return Record{}, fmt.Errorf("job record: %w", err)
	}
	if r.Epoch < 0 {
		return Record{}, fmt.Errorf("job record %s: epoch %d is below zero", r.ID, r.Epoch)
	}
	return r, nil
}
