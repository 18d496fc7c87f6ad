package scan

import (
	"github.com/migrate-hpc/migrate/stream"
)

// tracker tells which pages a round need not look at, because the kernel has kept track
// of what was written. It only ever saves work: what the kernel does not notice (direct
// I/O, page tables that mremap moves as they are) is found when the job is frozen, and
// all of its memory is compared.
type tracker interface {
	name() string
	// begin is called before a round, with all processes. It returns those that it follows
	// from now on, so nothing read earlier counts.
	begin(tasks []Task) (news []stream.VPID)
	// changed lists, in order, where a mapping may have changed since begin first named
	// the process. known is false if that could be anywhere.
	changed(t Task, m addrRange) (where []addrRange, known bool)
}

// newTracker picks what this kernel has.
func newTracker() tracker {
	if softDirtyWorks() == nil {
		return &softDirty{}
	}
	return hashing{}
}

// hashing looks at every page. It needs nothing of the kernel.
type hashing struct{}

func (hashing) name() string                                { return "hash" }
func (hashing) begin([]Task) []stream.VPID                  { return nil }
func (hashing) changed(Task, addrRange) ([]addrRange, bool) { return nil, false }
