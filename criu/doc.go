// Package criu is the only place that speaks with CRIU.
//
// CRIU is started anew for every request, as `criu swrk 3`, and spoken with in
// protobuf messages over a socket that only the two ends know:
//
//	this process                       criu swrk 3
//	    │  socketpair, SEQPACKET             │
//	    ├── request ───────────────────────► │
//	    │ ◄─────────────── notify pre-dump ──┤   every notification waits
//	    ├── accepted / refused ────────────► │   for its answer
//	    │ ◄─────────────── notify post-dump ─┤
//	    ├── accepted / refused ────────────► │
//	    │ ◄───────────────────────── reply ──┤
//	    └── reaped ◄──────────────────── exit┘
//
// # Giving up
//
// A CRIU that is killed in a dump leaves its code inside the job's tasks. One
// whose client is gone finds that out when it waits for the answer to a
// notification: then it takes everything back itself, and those of a restore
// it kills. So cancelling closes the socket for writing and waits; what does
// not end within the grace is killed only if it dumps nothing. Notifications
// are always asked for, because without them there is no such point.
//
// A refused or cancelled dump of a cgroup that was frozen before leaves it
// frozen. Thawing is up to the caller. After a restore that had to be killed
// the caller must kill the cgroup that it was to run in.
//
// # The lazy dump
//
// See Client.DumpLazy: there is never a port on which CRIU would hand out the
// job's memory.
//
// # Results of probes
//
// CRIU probes the kernel at each start and keeps the results in /run/criu.kdat,
// but only if that is on a tmpfs. Where it is not (some containers and small
// machines), probing took 53 of the 107 ms of a small lazy dump, all of it while
// the job is frozen, and as much again at the restore. There CRIU is started
// in a mount namespace of its own, in which a file that holds the results of an
// earlier start is bound to that name. Such a file is of one boot and one copy
// of CRIU, and CRIU itself checks that it wrote it.
package criu
