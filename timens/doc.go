// Package timens keeps a job's clocks going on from where they stood.
//
// CLOCK_MONOTONIC and CLOCK_BOOTTIME count from the start of a node, so two nodes
// never agree on them. A time namespace adds an offset to both, which is how a job
// can read the same time on the next node as it did on the last:
//
//	              frozen at                     runs again
//	                 │                               │
//	source  host ────┼──────►                        │
//	        + offset │                               │
//	job     ─────────┤ frozen  ┄┄┄┄┄┄ downtime ┄┄┄┄┄┄├───────► continuous: goes on at frozen
//	                 │                               ├───────► elapsed:    at frozen + time away
//	target  host ────┼───────────────────────────────┼───────►
//	                           offset = want - host  │
//
// The job never sees time go backwards, for any uptimes and any wall clocks of the two
// nodes: [Continue] never returns less than the reading at the freeze.
//
// Offsets always count from the clocks of the initial time namespace, also when the
// reader lives in another one. [Host] therefore takes this process's own offsets out
// of what it reads. CLOCK_REALTIME is not virtualised by any kernel.
//
// All of it is arithmetic but [Now], [Host], [Offsets] and [WriteOffsets].
package timens
