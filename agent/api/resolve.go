package api

import "github.com/migrate-hpc/migrate/job"

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
