// Package filelocks hands the job's exclusive locks on files over to the copy on the target.
//
// On a file that both nodes share, only one of the two copies can hold such a lock, and the source
// holds it until its copy has ended. That is after the copy here has been told to run:
//
//	source   frozen, holds the locks ────────── released: the kernel drops them
//	target   parked ─── told to run: CRIU lets go, frozen ─── takes them, runs
//
// So CRIU gets images without these locks. The copy stays frozen until it has them all: its first
// instruction finds the locks that its last one on the source has left. An aborted move has touched
// nothing on the source.
//
// Locks of an open file (F_OFD_SETLK) are taken from outside, by a descriptor of it. A lock of a
// process (F_SETLK) only the process can take, and one of flock(2) names the process. They are guarded
// meanwhile by one of the open file, which the shim takes.
//
// No file system passes an exclusive lock from node to node. Who asks for it in the moment between
// both copies gets it. Then the job waits, frozen, until it is free again. Shared locks are not
// concerned: CRIU takes them while the source still has them.
package filelocks
