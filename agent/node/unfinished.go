package node

import (
	"time"

	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
)

// UnfinishedRole is this node's role in an unfinished move of the job, "" for none.
func (n *Node) UnfinishedRole(id job.ID) handoff.Role {
	recs, _ := n.Journal.Unfinished() // of those that can be read
	for _, r := range recs {
		if r.Job == string(id) {
			return r.Role
		}
	}
	return ""
}

// EarliestMove is a time before which no move of a job can have left a record here. An epoch
// is used up before its first record. See [handoff.Journal.Guard].
func EarliestMove(rec job.Record) time.Time {
	if rec.Epoch == 0 {
		return time.Now()
	}
	return rec.Created.Add(-clockSlack)
}

// clockSlack is by how much a node's clock may have gone back: then a job looks younger than a
// file that was written later.
const clockSlack = 24 * time.Hour
