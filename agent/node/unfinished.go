package node

import (
	"time"

	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
)

// UnfinishedRole is this node's role in a move of the job that has begun and not ended, ""
// for none.
func (n *Node) UnfinishedRole(id job.ID) handoff.Role {
	recs, _ := n.Journal.Unfinished() // of those that can be read
	for _, r := range recs {
		if r.Job == string(id) {
			return r.Role
		}
	}
	return ""
}

// EarliestMove is a time before which no move of a job can have left a record here: an
// epoch is used up before any record of it. See [handoff.Journal.Guard].
func EarliestMove(rec job.Record) time.Time {
	if rec.Epoch == 0 {
		return time.Now()
	}
	return rec.Created.Add(-clockSlack)
}

// clockSlack is by how much the clock of a node may have gone back, so that a job looks
// younger than a file that was written later.
const clockSlack = 24 * time.Hour
