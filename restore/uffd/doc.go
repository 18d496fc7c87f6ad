// Package uffd brings the memory that package pagestore keeps (Store) to the tasks
// that CRIU restores without it (Server).
//
//	data streams ──► Store ───────────────► Server ◄── lazy-pages.socket ── CRIU
//	                 pages.data (tmpfs)      │  ▲       vpid + userfaultfd
//	                 pages.log  (index)      │  │ faults, fork, remap, discard
//	                                         ▼  │
//	                                     tasks of the job
//
// A job runs as soon as CRIU has rebuilt everything but its memory. What it
// touches comes at once, the rest in the background, so the time that it stands
// still does not grow with its size. CRIU has a fault server of its own; this
// one copies in parallel, straight from the store, and gives memory back as
// pages land, so that a job never needs twice its size.
//
// # Server
//
// A page has to arrive once, and in the version of the freeze, and nothing may
// bring it back after the job has discarded it. Four rules hold that:
//
//  1. The table of an address space lists the pages still to come. A page is
//     taken out before it is copied and put back if the copy fails.
//  2. Messages of the kernel are read only while no copy is under way in that
//     address space (space.gate). A thread that discards, unmaps, moves or forks
//     is held by the kernel until its message has been read, and the kernel
//     refuses copies (EAGAIN) from when it begins. So every copy falls wholly
//     before or wholly after the change.
//  3. Messages are taken in batches that end when no change is under way,
//     because the kernel may queue those of two threads in the wrong order
//     (events.go).
//  4. A userfaultfd is closed only when its table is empty and no change, which
//     could be a fork, is under way. Closing it earlier would make the kernel
//     serve zeros. After any error they stay open: tasks then hang, and the caller
//     kills them.
//
// # Absent pages
//
// A server that awaits pages (Await) starts with a store that is still being filled.
// Until EndPush says that what it holds is of the freeze nothing of it is served; after
// that single pages may still be absent, and come by Deliver (supply.go). An absent page
// is in the table like any other and follows forks, moves and discards, but by its
// origin: the address that it had at the freeze, which is how the source knows it. A
// fault on one waits. When it arrives it goes to every address space that has its
// origin in the table; nobody else can ever ask for it, so a second delivery is left
// out. Requests tells what to ask for: what threads wait for first, with the 64 KiB around
// it, and what lies behind it next.
//
// While all that an address space lacks is absent nothing is copied to it, and so
// nothing tells that it has ended. It is asked now and then.
//
// # What is zero, and what comes first
//
// A page that is not in the table and is touched is zero: the job never had it,
// or gave it up. A page in the table that has no mapping, with no event to say
// why, is an error and not a shrug: it would be lost.
//
// A page in the table that is mapped before it was brought is an error too (ErrTaken).
// The job would read what is there. It is looked for when the job is parked (unmapped.go).
// CRIU up to 4.2 reads pages of its images before it registers a mapping, with huge
// pages on: a page that is lazy and lies in the 2 MiB around such a page is then zero.
//
// A fault brings the 64 KiB around it. The background works in chunks of 256
// KiB, which bounds what a fault waits for. It starts when CRIU has let the
// tasks go, or on Fill, when they are still parked; not before, because CRIU
// hands the userfaultfd over before it registers the memory, and then the two
// reasons for "nothing is mapped there" could not be told apart.
//
// Forked children are filled last: most of them end or exec soon, and memory
// that was shared with the parent is not shared any more once it was copied.
//
// The kernel's side is in fs/userfaultfd.c and mm/userfaultfd.c. Rules 2 to 4
// rest on its mmap_changing being a count of changes under way (it was a flag in
// early kernels); tested with 6.18. Not reported, and therefore not followed, are
// shmat with SHM_REMAP over memory that has not arrived (ends as an error), and a
// guard (MADV_GUARD_INSTALL) set on and lifted from such memory.
package uffd
