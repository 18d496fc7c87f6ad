package pidmap

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/linux"
	"github.com/migrate-hpc/migrate/procfs"
)

// ErrOutside is wrapped by the error for a task that is not in the job's pid namespace.
var ErrOutside = errors.New("task is outside of the pid namespace")

// Entry is one process.
type Entry struct {
	Host    int      `json:"host"`    // pid in the caller's pid namespace
	Job     int      `json:"job"`     // pid in the job's pid namespace
	PPid    int      `json:"ppid"`    // the parent, in the caller's pid namespace; 0 if it cannot be seen from there
	Comm    string   `json:"comm"`    // the name of the main thread
	State   byte     `json:"state"`   // as in /proc/PID/stat: 'R', 'S', 'D', 'T', 'Z', …
	Threads []Thread `json:"threads"` // every thread, the main one included, by ascending Host
	// Began is when the process did, in ticks since the boot: with Host it tells the process
	// from every other one, also from those that get its number after it. See [Take].
	Began uint64 `json:"-"`
}

// Zombie says that the process has ended and waits for its parent to collect it. It has
// no memory. A process whose main thread has ended while others run is none.
func (e Entry) Zombie() bool { return e.State == 'Z' && len(e.Threads) == 1 }

// Thread is one thread, with its ids as in [Entry].
type Thread struct {
	Host int `json:"host"`
	Job  int `json:"job"`
}

// Namespace returns the inode number of pid's pid namespace, which tells it from every
// other that lives at the same time.
func Namespace(pid int) (uint64, error) {
	f, err := os.Open(nsPath(pid))
	if err != nil {
		return 0, fmt.Errorf("pid namespace of %d: %w", pid, err)
	}
	defer f.Close()
	return inode(int(f.Fd()))
}

// Of describes the given processes, named by their pids here, in the pid namespace with
// the inode number pidns. Processes that end while it looks are left out. For each that
// is not in pidns nor in a namespace below it the error wraps [ErrOutside]; the others
// are returned all the same.
func Of(pids []int, pidns uint64) ([]Entry, error) {
	var entries []Entry
	var failed []error
	for _, pid := range pids {
		entry, err := describe(pid, pidns, 1)
		switch {
		case err == nil:
			entries = append(entries, entry)
		case !procfs.IsGone(err):
			failed = append(failed, fmt.Errorf("pid %d: %w", pid, err))
		}
	}
	return entries, errors.Join(failed...)
}

// InNamespace describes all processes in the pid namespace of initPID and in those below
// it, by ascending Host. It looks at every process of the node, at about 10 µs each. One
// whose namespaces this process may not look at is left out: it has capabilities that the
// caller lacks, so the caller did not start it.
func InNamespace(initPID int) ([]Entry, error) {
	pidns, err := Namespace(initPID)
	if err != nil {
		return nil, err
	}
	init, err := levelsOf(initPID)
	if err != nil {
		return nil, fmt.Errorf("pid namespace of %d: %w", initPID, err)
	}
	pids, err := procfs.Numbers("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var entries []Entry
	for _, pid := range pids {
		entry, err := describe(pid, pidns, init)
		switch {
		case err == nil:
			entries = append(entries, entry)
		case !procfs.IsGone(err) && !errors.Is(err, ErrOutside) && !errors.Is(err, fs.ErrPermission):
			return nil, fmt.Errorf("pid %d: %w", pid, err)
		}
	}
	return entries, nil
}

// Members lists the processes in the pid namespace of initPID, and not those in the ones below it,
// by ascending number on the node. It costs less than InNamespace, and says less.
func Members(initPID int) ([]int, error) {
	pidns, err := os.Readlink(nsPath(initPID))
	if err != nil {
		return nil, err
	}
	pids, err := procfs.Numbers("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var members []int
	for _, pid := range pids {
		has, err := os.Readlink(nsPath(pid))
		if err != nil && !procfs.IsGone(err) && !errors.Is(err, fs.ErrPermission) { // as in InNamespace
			return nil, fmt.Errorf("pid namespace of %d: %w", pid, err)
		}
		if err == nil && has == pidns {
			members = append(members, pid)
		}
	}
	return members, nil
}

// Visitors are those of a pid namespace's processes, as [InNamespace] returns them, that
// do not descend from its PID 1: setns(2) has brought them in, and the tree of PID 1 does not
// have them. One that has ended does not count.
func Visitors(all []Entry) []Entry {
	inside := map[int]bool{}
	for _, e := range all {
		inside[e.Host] = true
	}
	var visitors []Entry
	for _, e := range all {
		if e.Job != 1 && !inside[e.PPid] && !e.Zombie() {
			visitors = append(visitors, e)
		}
	}
	return visitors
}

// describe looks at one process. One with fewer pids than levels is outside for sure. All
// that it says is of the same process: what /proc shows under a number that is in use again
// is in another directory.
func describe(pid int, pidns uint64, levels int) (Entry, error) {
	dir, err := openProc(pid)
	if err != nil {
		return Entry{}, err
	}
	defer dir.close()
	st, err := dir.status("status")
	if err != nil {
		return Entry{}, err
	}
	if len(st.nspid) < levels {
		return Entry{}, ErrOutside
	}
	depth, err := dir.below(pidns)
	if err != nil {
		return Entry{}, err
	}
	job, err := st.inside(depth)
	if err != nil {
		return Entry{}, err
	}
	threads, err := dir.threads(depth)
	if err != nil {
		return Entry{}, err
	}
	began, err := dir.began()
	if err != nil {
		return Entry{}, err
	}
	return Entry{Host: pid, Job: job, PPid: st.ppid, Comm: st.name, State: st.state, Threads: threads, Began: began}, nil
}

// levelsOf is how many pids a process has, from ours inwards.
func levelsOf(pid int) (int, error) {
	dir, err := openProc(pid)
	if err != nil {
		return 0, err
	}
	defer dir.close()
	st, err := dir.status("status")
	return len(st.nspid), err
}

func (p proc) threads(depth int) ([]Thread, error) {
	tids, err := p.numbers("task")
	if err != nil {
		return nil, err
	}
	var threads []Thread
	for _, tid := range tids {
		st, err := p.status("task/" + strconv.Itoa(tid) + "/status")
		if procfs.IsGone(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		job, err := st.inside(depth)
		if err != nil {
			return nil, fmt.Errorf("thread %d: %w", tid, err)
		}
		threads = append(threads, Thread{Host: tid, Job: job})
	}
	if len(threads) == 0 {
		return nil, unix.ESRCH
	}
	return threads, nil
}

// below returns how many levels the process's own pid namespace lies below pidns: 0 if it
// is pidns itself. All threads of a process share one.
func (p proc) below(pidns uint64) (int, error) {
	fd, err := p.open("ns/pid", 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	return climb(fd, pidns)
}

// climb follows the parents of the pid namespace at fd up to pidns. The kernel nests pid
// namespaces at most 32 deep.
func climb(fd int, pidns uint64) (int, error) {
	ino, err := inode(fd)
	if err != nil {
		return 0, err
	}
	if ino == pidns {
		return 0, nil
	}
	parent, err := parentOf(fd)
	if errors.Is(err, unix.EPERM) { // the caller's own namespace has no visible parent
		return 0, ErrOutside
	}
	if err != nil {
		return 0, fmt.Errorf("parent of pid namespace %d: %w", ino, err)
	}
	depth, err := climb(parent, pidns)
	if closeErr := unix.Close(parent); closeErr != nil && err == nil {
		err = closeErr
	}
	return depth + 1, err
}

func parentOf(fd int) (int, error) {
	return linux.RetryValue(func() (int, error) { return unix.IoctlRetInt(fd, unix.NS_GET_PARENT) })
}

func inode(fd int) (uint64, error) {
	var st unix.Stat_t
	if err := linux.Retry(func() error { return unix.Fstat(fd, &st) }); err != nil {
		return 0, fmt.Errorf("stat namespace: %w", err)
	}
	return st.Ino, nil
}

func procDir(pid int) string { return "/proc/" + strconv.Itoa(pid) }

func nsPath(pid int) string { return procDir(pid) + "/ns/pid" }
