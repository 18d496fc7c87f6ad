// Package checkpoint is the source's half of a move, and of a checkpoint to a
// directory: it freezes a job, takes it apart and hands the pieces on.
//
//	Output   output files as they are, while the job runs
//	PreCopy  rounds over its memory, while it runs: what is new or has changed
//	Freeze   cgroup frozen, link down, clocks read        ← downtime from here
//	Dump     CRIU, lazy: everything but lazy memory, into a tmpfs
//	         meanwhile: what changed since the last round
//	Send     images, what was written to the output since, what else CRIU names
//	Thaw     the way back, at any point before the commit
//
// The job's memory is read by us and not by CRIU, because that is where the time
// goes: several workers read it with process_vm_readv and compress and send what the
// target lacks while the next is read (package pages). In the end CRIU's pagemaps say
// what has to be there. Nothing of it touches a disk.
//
// The frozen memory is looked at while CRIU works in the very tasks. What CRIU does
// there shows in three places. Kernel code that it interrupts may write results, so the
// look begins when it holds all tasks. It borrows a few bytes of a task's code, and the
// kernel writes the areas of restartable sequences: such pages are looked at again when
// CRIU has ended.
//
// Where the pieces go is not this package's business: it writes lanes, which are
// connections to a peer or files of a directory (see package image for what is
// on a lane). So a checkpoint to disk is a move whose peer is a directory.
package checkpoint
