// Package checkpoint is the source's half of a move, and of a checkpoint to a directory. It
// freezes a job, saves it, and sends what it has saved.
//
//	Output   output files as they are, while the job runs
//	PreCopy  rounds over its memory, while it runs: what is new or has changed
//	Look     what is not to be seen of a frozen job
//	Freeze   cgroup frozen, link down, clocks read        ← downtime begins
//	Dump     CRIU, lazy: everything but lazy memory, into a tmpfs
//	         meanwhile: what changed since the last round
//	Send     images, what was written to the output since, what else CRIU names
//	Thaw     the way back, at any point before the commit
//
// At each of them the resources that CRIU does not carry have their turn, see package carry.
//
// The job's memory is read by us and not by CRIU, because that is where the time
// goes: several workers read it with process_vm_readv and compress and send what the
// target lacks while the next is read (package scan). In the end CRIU's pagemaps say
// what has to be there. Nothing of it touches a disk.
//
// The frozen memory is scanned while CRIU works in the same tasks. CRIU leaves traces in
// three places. It interrupts system calls, and the kernel may write their results: the
// scan begins when CRIU has seized all tasks. It borrows a few bytes of a task's code, and
// the kernel writes the areas of restartable sequences: Send reads those pages again when
// CRIU has ended.
//
// This package writes lanes (package stream). A lane is a connection to a peer or a file
// of a directory. So a checkpoint to disk is a move whose peer is a directory.
package checkpoint
