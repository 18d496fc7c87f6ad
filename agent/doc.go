// Package agent is the one process per node that holds everything together: it
// answers users over a unix socket and other agents over TLS, starts shims,
// drives moves, and sorts out at its start what an earlier agent left undone.
//
//	unix socket (who: SO_PEERCRED) ─┐                ┌─ shims of the jobs here
//	                                ├─ one API ──────┤
//	TLS, HTTP (who: certificate) ───┘    │           └─ job store, journal
//	                                     └─ passes on what concerns a job that has moved
//	TLS, moves ─────────────────────────── handoff: source here, target there
//
// It holds no state that it could not find again: what runs is asked of the
// shims and the kernel, what was decided is in the journal, what was asked for is
// in the job store. So killing it costs nothing but the moves that were not yet
// committed, and those are undone by the next one.
//
// Directories: the state directory is durable (records, output, journals); the
// run directory holds sockets and mount points; memory, a tmpfs, holds the images
// and pages that are on their way.
package agent
