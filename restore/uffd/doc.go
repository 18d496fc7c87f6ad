// Package uffd brings the memory that package pagestore keeps (Store) to the tasks
// that CRIU restores without it (Server).
//
//	data streams ──► Store ───────────────► Server ◄── lazy-pages.socket ── CRIU
//	                 pages.data (tmpfs)      │  ▲       vpid + userfaultfd
//	                 pages.log  (index)      │  │ faults, fork, remap, discard
//	                                         ▼  │
//	                                     tasks of the job
//
// A job runs as soon as CRIU has rebuilt everything but its memory. A page that it
// touches comes at once, the rest in the background. So the downtime does not grow with
// the job's size. CRIU has a fault server of its own. This one copies in parallel,
// straight from the store. It frees memory as pages arrive in the job, so that a job
// never needs twice its size.
//
// # Server
//
// A page has to arrive once, in the version of the freeze. Nothing may bring it back after
// the job has discarded it. Four rules hold that:
//
//  1. The table of an address space lists the pages still to come. A page is
//     taken out before it is copied and put back if the copy fails.
//  2. Messages of the kernel are read only while no copy is under way in that
//     address space (space.gate). The kernel holds a thread that discards, unmaps,
//     moves or forks until its message has been read. It refuses copies (EAGAIN)
//     from when such a change begins. So every copy falls wholly before or wholly
//     after the change.
//  3. Messages are read in batches that end when no change is under way. The
//     kernel may queue those of two threads in the wrong order (events.go).
//  4. A userfaultfd is closed only when its table is empty and no change is under
//     way. A change could be a fork. If it were closed earlier, the kernel would
//     serve zeros. After any error all stay open: tasks then hang, and the caller
//     kills them.
//
// # Parts and locks
//
// The Server has the life of the whole and the list of address spaces. A space is one
// address space: its table, its messages, its copies. A handover takes tasks over from
// CRIU, a filler is a worker of the background, and the poller waits for messages. The
// supply is what comes while the server runs, the requests are what it asks for.
//
// A lock is taken before those below it:
//
//	supply.mu   what is pending, and which tasks CRIU has handed over
//	space.gate  messages and copies of one address space; never of two at a time
//	space.mu    its table, among holders of gate for reading
//	Server.mu   the list of spaces, the requests, the end
//
// The locks of the Store and of the FDHolder come last.
//
// # Absent pages
//
// With AllowIncomplete, a server starts with a store that is still being filled. It serves
// nothing before EndPush: only then is the store as of the freeze. After that single pages
// may still be absent, and come by Deliver (supply.go). An absent page is in the table like
// any other and follows forks, moves and discards. It is found by its origin, the address
// that it had at the freeze. The source knows it by that. A fault on one waits. When
// it arrives it goes to every address space that has its origin in the table. No other one
// can ask for it, so a second delivery is skipped. Requests says what to pull. What threads
// wait for is first, with the 64 KiB around it, and what lies behind it is next.
//
// Nothing is copied to an address space that lacks only absent pages. So no copy tells that
// it has ended. The server checks that now and then.
//
// # What is zero, and what comes first
//
// A touched page that is not in the table is zero: the job never had it, or gave it up. A
// page in the table without a mapping is an error, unless an event says why. The job
// would lose it.
//
// A page in the table that is mapped before it was brought is an error too
// (ErrAlreadyMapped). The job would read what is there. The server looks for such pages
// when the job is parked (unmapped.go). With huge pages on, CRIU up to 4.2 causes some. It
// reads pages of its images before it registers a mapping. A lazy page in the 2 MiB around
// such a page is then zero.
//
// A fault brings the 64 KiB around it. The background works in chunks of 256 KiB, which
// bounds what a fault waits for. It starts when CRIU has let the tasks go, or on Fill, when
// they are still parked. It cannot start before: CRIU hands the userfaultfd over before it
// registers the memory. A missing mapping would then have two possible reasons.
//
// Forked children are filled last. Most of them end or exec soon, and a copy ends the
// sharing of memory with the parent.
//
// The kernel's side is in fs/userfaultfd.c and mm/userfaultfd.c. Rules 2 to 4
// need a mmap_changing that counts the changes under way. In early kernels it was a flag. They
// are tested with 6.18. Two things are not reported, and therefore not followed. The first
// is shmat with SHM_REMAP over memory that has not arrived, which ends as an error. The
// other is a guard (MADV_GUARD_INSTALL) that is set on such memory and lifted again.
package uffd
