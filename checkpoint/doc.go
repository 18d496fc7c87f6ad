// Package checkpoint is the source's half of a move, and of a checkpoint to a
// directory: it makes a job stand still, takes it apart and hands the pieces on.
//
//	Output   output files as they are, while the job runs
//	Freeze   cgroup frozen, link down, clocks read        ← stands still from here
//	Dump     CRIU, lazy: everything but lazy memory, into a tmpfs
//	Send     images, what was written to the output since, all lazy memory
//	Thaw     the way back, at any point before the commit
//
// The job's memory is read by us and not by CRIU, because that is where the time
// goes: several workers read the frozen tasks with process_vm_readv straight
// into frames and compress and send them while the next are read. CRIU's
// pagemaps say what has to be read. Nothing of it touches a disk.
//
// Where the pieces go is not this package's business: it writes lanes, which are
// connections to a peer or files of a directory (see package image for what is
// on a lane). So a checkpoint to disk is a move whose peer is a directory.
package checkpoint
