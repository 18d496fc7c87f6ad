// Package scan reads the memory of a job, while it runs and when it is frozen. It writes
// what the target lacks as page runs (package stream) to the data streams of a move.
//
//	/proc/PID/maps ─► planner ─► lane 1: read ─ compare ─► frame ─► stream 1
//	  and pagemap        │          └ ledger: what the target has
//	                     └─────► lane 2: …
//
//	PreCopy   rounds, while the job runs. Anything may happen to it meanwhile.
//	Scan      of all the frozen memory, while CRIU dumps. What it has seen is final.
//	Rest      after the dump: what CRIU's pagemaps name and Scan has not seen.
//
// # Ledger
//
// For each page that was sent, a hash of 128 bits says what the target has now. A page
// is sent if its hash differs. The hash is taken of the bytes that are sent. If the
// job writes a page while it is read, the ledger is still true of the target. The next look
// finds the difference. Pages may be unmapped, discarded or moved, or belong to another
// program since an exec. None of that matters, because the ledger mirrors the target and
// not the job.
//
// # Lanes
//
// Two versions of a page must not overtake each other. So memory is bound to lanes by
// its address, and what is on one lane is read in order. This also makes copies possible.
// A page that equals another on its lane, by the ledger, is sent as a reference.
//
// A lane has one worker. The scan of a frozen job has several for each lane, if the node
// has more processors than lanes. They read and compare at the same time, and record the
// results one after the other. A pass looks at each page once, and begins when the one
// before it has ended. So the order within a pass does not matter.
//
// # Reading
//
// Only pages that exist are read. Reading another one would make it, and a job may reserve
// far more than it uses. Pages are read in batches that the cache of a core keeps until
// they have been compared. The kernel takes most of the time: it finds each page and copies
// it. Garbage collectors and debug allocators keep data in PROT_NONE memory, which
// process_vm_readv does not read. Such pages come through /proc/PID/mem.
//
// PreCopy and Scan leave out what they cannot read. For Rest that is an error, and the
// move is given up: CRIU has said that the page of the frozen job is there.
package scan
