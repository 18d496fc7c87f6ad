package peer

import (
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/restore/uffd"
)

// Before it lets go of the frozen job the source asks the target which memory it lacks,
// and sends that until the target has all.
//
//	source                                        target
//	pull ─────────────────────────────────────►   asks the job's shim
//	reads the frozen tasks    ◄───────────── want …   again and again, also with nothing
//	pages ── data connections ────────────────►   to the shim
//	                          ◄──────────── complete  every page is here, or the job has ended
//	lost ─────────────────────────────────────►   the frozen tasks are gone: ends the job
//
// What is missing is known to the target's shim alone; both agents may restart, and the
// connection may break, and it is asked again. A target that hears of a second pull of
// the move ends the first.

// Wants are the pages that the target asks for; an empty list says that it is alive.
type Wants struct {
	Wants []uffd.PageRequest `json:"wants,omitempty"`
}

// Lost tells the target that memory which it lacks is gone.
type Lost struct {
	Move handoff.MoveID `json:"move"`
	Why  string         `json:"why"`
}
