package preflight

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/pidmap"
	"github.com/migrate-hpc/migrate/procfs"
)

// inode is what statx(2) tells of a file.
type inode struct {
	Mode         uint32 // st_mode
	DevMajor     uint32
	DevMinor     uint32
	RdevMajor    uint32
	RdevMinor    uint32
	Ino          uint64
	Links        uint32
	Size         int64 // bytes
	Allocated    int64 // bytes
	Mount        uint64
	MountIsKnown bool // the kernel tells the mount (5.8 or newer)
}

func (i inode) kind() uint32 { return i.Mode & unix.S_IFMT }

// key tells an inode from every other one.
func (i inode) key() [3]uint64 { return [3]uint64{uint64(i.DevMajor), uint64(i.DevMinor), i.Ino} }

// nameState says where the name of an open file leads now.
type nameState int

const (
	nameHolds  nameState = iota // to the file, or it was not asked
	nameGone                    // nowhere
	nameReused                  // to another file
)

// file is something that a task has open, mapped or as its directory.
type file struct {
	inode
	Link  string // as the magic link in /proc shows it
	Magic int64  // of the file system, statfs(2); only of files on no mount of the job
	Name  nameState
}

// path is the name in the job, without the kernel's addition.
func (f file) path() string {
	if f.Links == 0 || f.Name == nameGone {
		return strings.TrimSuffix(f.Link, procfs.Deleted)
	}
	return f.Link
}

// descriptor is an open file. Number is -1 for a task's directories.
type descriptor struct {
	file
	Number int
	Flags  int    // as open(2) takes them
	Clock  int    // of a timerfd
	Unread bool   // of a netlink socket: an answer of the kernel waits in it
	Proto  string // of a socket, as sockfs names it; "" = not known
	Pid    int    // of a pidfd: the process, -1 when it has ended
	Locked bool   // a lock on it excludes others
	Leased bool   // who else opens it has to wait, see F_SETLEASE
}

// isProgram is true of what the task runs: its other directories are directories.
func (d descriptor) isProgram() bool { return d.Number < 0 && d.kind() == unix.S_IFREG }

// access is what the task may do by the descriptor, as access(2) takes it.
func (d descriptor) access() uint32 {
	switch {
	case d.isProgram():
		return unix.X_OK
	case d.Number < 0 || d.Flags&unix.O_PATH != 0:
		return 0
	}
	switch d.Flags & unix.O_ACCMODE {
	case unix.O_RDONLY:
		return unix.R_OK
	case unix.O_WRONLY:
		return unix.W_OK
	case unix.O_RDWR:
		return unix.R_OK | unix.W_OK
	}
	return 0
}

func (d descriptor) String() string {
	if d.Number < 0 {
		return d.Link
	}
	return fmt.Sprintf("%s (descriptor %d)", d.Link, d.Number)
}

// mapping is a mapped file, or one of the kernel's own areas, which have no
// inode.
type mapping struct {
	file
	Shared   bool
	Writable bool
}

// access needs no right to read of the task's program, which the kernel has mapped.
func (m mapping) access(program [3]uint64) uint32 {
	switch {
	case m.key() == program:
		return unix.X_OK
	case m.Shared && m.Writable:
		return unix.R_OK | unix.W_OK
	}
	return unix.R_OK
}

// space is a namespace of a thread: the kind as in /proc/PID/ns, and the
// kernel's name for the instance.
type space struct{ Kind, Name string }

// task is a process of the job.
type task struct {
	pidmap.Entry
	Tracers []int // of its threads, in our pid namespace
	UIDs    [4]uint32
	GIDs    [4]uint32
	Spaces  []space  // of all threads, each once
	Alien   []string // kinds of namespaces inside the job's that belong to another user namespace
	// Connected says that there are TCP connections in its network namespace, which is inside the job's.
	Connected bool
	Private   int64  // bytes of private memory, resident or swapped out
	Locked    int64  // of them at most those are locked
	Space     uint64 // size of its address space, in pages, when Mapped was read
	Opened    []descriptor
	Mapped    []mapping
}

func (t task) String() string { return processName(t.Job, t.Comm) }

func processName(pid int, comm string) string { return fmt.Sprintf("process %d (%s)", pid, comm) }

// space returns the namespace of a kind that the first thread is in.
func (t task) space(kind string) string {
	for _, s := range t.Spaces {
		if s.Kind == kind {
			return s.Name
		}
	}
	return ""
}
