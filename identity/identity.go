package identity

import (
	"cmp"
	"slices"

	"github.com/migrate-hpc/migrate/namespaces"
)

// ID names a thread by its numbers in the job's pid namespace.
type ID struct{ PID, TID int }

func compareIDs(a, b ID) int {
	if a.PID != b.PID {
		return a.PID - b.PID
	}
	return a.TID - b.TID
}

// Unknown stands for a number that the one who was asked does not tell.
const Unknown = -1

// Thread is what the kernel lets one thread do. Ids are the node's.
type Thread struct {
	UIDs   [4]uint32 `json:"uids"` // real, effective, saved, of the file system
	GIDs   [4]uint32 `json:"gids"`
	Groups []uint32  `json:"groups,omitempty"` // supplementary, ascending, each once

	Inheritable uint64 `json:"inheritable,omitempty"` // sets of capabilities, a bit for each
	Permitted   uint64 `json:"permitted,omitempty"`
	Effective   uint64 `json:"effective,omitempty"`
	Bounding    uint64 `json:"bounding,omitempty"`
	Ambient     uint64 `json:"ambient,omitempty"`

	NoNewPrivs bool  `json:"no_new_privs,omitempty"`
	Seccomp    int64 `json:"seccomp,omitempty"` // mode
	Filters    int64 `json:"filters,omitempty"` // of seccomp, Unknown if that is not told
	Securebits int64 `json:"securebits"`        // Unknown from the kernel: CRIU asks within the task
}

// UserNS is a user namespace.
type UserNS struct {
	UIDs []namespaces.IDMap `json:"uids"` // ascending
	GIDs []namespaces.IDMap `json:"gids"`
	// Setgroups is "allow" or "deny"; "" if that is not told.
	Setgroups string `json:"setgroups,omitempty"`
}

// Job is every thread of a job that has not ended.
type Job struct {
	UserNS  *UserNS // nil: that of the node
	Threads map[ID]Thread
	// Nested has the processes, by their number in the job, that are in a namespace which the job has
	// made inside its own.
	Nested map[int]Nest
}

// ids lists the threads in order.
func (j Job) ids() []ID {
	var ids []ID
	for id := range j.Threads {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, compareIDs)
	return ids
}

// Frame is the job without what its threads may do: who is there, in which user namespace.
func (j Job) Frame() Job {
	frame := Job{UserNS: j.UserNS, Nested: j.Nested, Threads: map[ID]Thread{}}
	for id := range j.Threads {
		frame.Threads[id] = Thread{}
	}
	return frame
}

// SetOf brings a list of groups into the form that Thread has.
func SetOf(groups []uint32) []uint32 {
	if len(groups) == 0 {
		return nil
	}
	set := slices.Clone(groups)
	slices.Sort(set)
	return slices.Compact(set)
}

// InOrder brings maps into the form that UserNS has.
func InOrder(maps []namespaces.IDMap) []namespaces.IDMap {
	ordered := slices.Clone(maps)
	slices.SortFunc(ordered, func(a, b namespaces.IDMap) int { return cmp.Compare(a.Inside, b.Inside) })
	return ordered
}
