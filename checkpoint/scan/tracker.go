package scan

import (
	"github.com/migrate-hpc/migrate/stream"
)

// tracker tells which pages a round need not read, because the kernel has tracked writes. It only
// saves work. The kernel misses direct I/O, and page tables that mremap moves as they are. Scan
// finds those: it compares all memory of the frozen job.
type tracker interface {
	name() string
	// begin is called before a round, with all processes. It returns those that it tracks from now on;
	// pages read earlier do not count for them.
	begin(tasks []Task) (news []stream.VPID)
	// changed lists, in order, where a mapping may have changed since begin first named the process.
	// If known is false, that may be anywhere.
	changed(t Task, m addrRange) (where []addrRange, known bool)
}

// newTracker picks what this kernel has.
func newTracker() tracker {
	if softDirtyWorks() == nil {
		return &softDirty{}
	}
	return hashing{}
}

// hashing has every page read. It needs nothing of the kernel.
type hashing struct{}

func (hashing) name() string                                { return "hash" }
func (hashing) begin([]Task) []stream.VPID                  { return nil }
func (hashing) changed(Task, addrRange) ([]addrRange, bool) { return nil, false }
