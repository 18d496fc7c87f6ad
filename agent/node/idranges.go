package node

import (
	"sync"

	"github.com/migrate-hpc/migrate/job"
)

// IDRanges are the ids of the node that jobs in user namespaces are mapped to. No two jobs
// share an id, at whatever step of a launch or a move they are: a job has its range
// while it is
//
//	reserved      being started, or arriving, since it was admitted
//	in incoming/  arriving, as an earlier agent admitted it
//	in jobs/      here, or leaving until no task of its frozen copy is left
//
// and each of these begins before the one above it ends.
type IDRanges struct {
	mu       sync.Mutex
	reserved map[string]job.Record // by the id of the job that starts, or of the move that brings it
}

func (r *IDRanges) reserve(key string, rec job.Record) {
	if r.reserved == nil {
		r.reserved = map[string]job.Record{}
	}
	r.reserved[key] = rec
}

// Release frees the range that was reserved for a job or a move, by its id.
func (r *IDRanges) Release(key string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.reserved, key)
}
