package image

import (
	criu_core "github.com/checkpoint-restore/go-criu/v7/crit/images/criu-core"

	"github.com/migrate-hpc/migrate/stream"
)

// RestartAreas lists the pages that hold a thread's area for restartable sequences
// (rseq(2)). The kernel writes there whenever the thread returns to user mode, which it
// does while CRIU works in it: of all of a frozen job's memory these pages alone are not
// still during a dump.
func RestartAreas(dir string) ([]stream.Place, error) {
	var pages []stream.Place
	err := eachThread(dir, func(vpid stream.VPID, _ uint32, e *criu_core.CoreEntry) {
		for _, addr := range restartArea(e) {
			pages = append(pages, stream.Place{VPID: vpid, Addr: addr})
		}
	})
	return pages, err
}

// restartArea returns the pages of the area of one thread, if it has one.
func restartArea(e *criu_core.CoreEntry) []uint64 {
	area := e.GetThreadCore().GetRseqEntry()
	if area.GetRseqAbiPointer() == 0 || area.GetRseqAbiSize() == 0 {
		return nil
	}
	first := area.GetRseqAbiPointer() &^ (stream.PageSize - 1)
	last := (area.GetRseqAbiPointer() + uint64(area.GetRseqAbiSize()) - 1) &^ (stream.PageSize - 1)
	if last == first {
		return []uint64{first}
	}
	return []uint64{first, last}
}
