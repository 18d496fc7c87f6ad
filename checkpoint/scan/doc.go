// Package scan reads the memory of a job, while it runs and when it is frozen, and
// writes what the target lacks of it as page runs (package image) to the data streams of
// a move.
//
//	/proc/PID/maps ─► planner ─► lane 1: read ─ compare ─► frame ─► stream 1
//	  and pagemap        │          └ ledger: what the target has
//	                     └─────► lane 2: …
//
//	PreCopy   rounds, while the job runs. Anything may happen to it meanwhile.
//	Scan      of all the frozen memory, while CRIU dumps. What it has seen is settled.
//	Rest      after the dump: what CRIU's pagemaps name and Scan has not seen.
//
// # Ledger
//
// For each page that was sent, a hash of 128 bits says what the target has now. A page
// is sent if its hash is another. The hash is taken of the very bytes that are sent, so
// a page that is read while the job writes it does no harm: the ledger is true of the
// target, and the next look finds the difference. The same holds for pages that are
// unmapped, discarded, moved, or belong to another program since an exec: the ledger
// mirrors the target, not the job, and needs no news of what the job does.
//
// # Lanes
//
// Two versions of a page must not overtake each other. So memory is bound to lanes by
// its address, and what is on one lane is read in order. It is also what makes copies
// possible: a page that equals another on its lane, by the ledger, is sent as a
// reference to it.
//
// A lane has one worker, and several for the scan of a frozen job, if the node
// has more processors than there are lanes. They read and compare at the same time, and
// enter what they have found in turn. Each page is looked at once in a pass, and a pass
// begins when the one before it has ended. So in what order they come does not matter.
//
// # Reading
//
// Only pages that exist are read, because touching another one would make it, and a job
// may reserve far more than it uses. Pages are read in batches that the cache of a core
// keeps until they have been compared. Most of the time that it takes is the kernel's: to
// find each page, and to copy it. process_vm_readv does not read memory that the
// job itself may not read (PROT_NONE, where garbage collectors and debug allocators keep
// data). Such pages come through /proc/PID/mem, which may.
//
// PreCopy and Scan leave out what they cannot read. For Rest that is an error, and the
// move is given up: the job is frozen, and CRIU has said that the page is there.
package scan
