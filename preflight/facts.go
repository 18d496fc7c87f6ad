package preflight

import "slices"

// jobFacts is a job as it was seen once, and the process that looked.
type jobFacts struct {
	Tasks            []task
	Spaces           map[string]string // PID 1's namespaces: kind → name
	OutsideNamespace []process         // in the cgroup only
	OutsideCgroup    []process         // in the pid namespace only
	Links            []outsideLink     // Unix sockets that lead out of the job
	FIFOs            []outsideFIFO     // FIFOs that do
	FreezerDir       string
	UserNS           bool
	TmpfsUsed        int64 // bytes on the job's own tmpfs mounts
	Carried          int64 // of them those that arrive in file systems, not in CRIU's images
	CopyOnWrite      int64 // bytes that copy-on-write saves
	Source           selfFacts

	view mountView
}

// selfFacts is this process, whose rights CRIU will have.
type selfFacts struct {
	UID, GID       uint32
	CapSysResource bool
	UserSpace      string // name of the user namespace
}

func (j *jobFacts) has(pid int) bool {
	return slices.ContainsFunc(j.Tasks, func(t task) bool { return t.Host == pid })
}

// process is one that is not of the job, or only half.
type process struct {
	Pid  int // in our pid namespace
	Job  int // in the job's; 0 for none
	PPid int // in our pid namespace
	Comm string
	// Headless is one whose main thread has ended while others go on. Its namespaces
	// cannot be seen any more.
	Headless bool
}

// outsideFIFO is a FIFO of a task that a process outside of the job has open too. A FIFO is one
// per node, whatever file system its name is on.
type outsideFIFO struct {
	Who   string // the task
	Held  descriptor
	Other process
}

// unixSocket is a Unix socket of the job's network namespace. Peer is the inode of the socket that
// it is connected to, 0 for none. A connection that waits to be accepted has no peer yet. An
// accepted socket is in the namespace of the caller.
type unixSocket struct{ Ino, Peer uint32 }

// outsideLink is a Unix socket of a task whose other end no task of the job has open.
type outsideLink struct {
	unixSocket
	Who    string // the task
	Number int    // of the descriptor
}
