package node

import (
	"time"

	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
)

// Unfinished is this node's role in a move of the job that has begun and not ended, ""
// for none.
func (a *Node) Unfinished(id job.ID) handoff.Role {
	recs, _ := a.Journal.Unfinished() // of those that can be read
	for _, r := range recs {
		if r.Job == string(id) {
			return r.Role
		}
	}
	return ""
}

// UntouchedUntil is a time before which no move of a job can have left a record here: an
// epoch is used up before any record of it. See [handoff.Journal.Guard].
func UntouchedUntil(rec job.Record) time.Time {
	if rec.Epoch == 0 {
		return time.Now()
	}
	return rec.Created.Add(-clockDoubt)
}

// clockDoubt is by how much the clock of a node may have gone back, so that a job looks
// younger than a file that was written later.
const clockDoubt = 24 * time.Hour
