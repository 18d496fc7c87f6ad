package threads

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/affinity"
	"github.com/migrate-hpc/migrate/namespaces"
	"github.com/migrate-hpc/migrate/parallel"
	"github.com/migrate-hpc/migrate/pidmap"
	"github.com/migrate-hpc/migrate/procfs"
)

// usual is what a job's processes have that never asked for anything else.
type usual struct {
	cpus   affinity.CPUs
	filter uint32
}

// usualOf is what a job was given here. Its shim, the parent of its PID 1, has it too.
func usualOf(init int) (u usual, err error) {
	if u.cpus, err = affinity.Given(init); err != nil {
		return u, err
	}
	u.filter, err = coredumpFilter("self")
	return u, err
}

func threadsOf(pid int) ([]int, error) {
	tids, err := procfs.Numbers(fmt.Sprintf("/proc/%d/task", pid))
	if procfs.IsGone(err) {
		return nil, nil
	}
	return tids, err
}

// look looks at all threads of a job that stands still.
func look(init int) (record, error) {
	u, err := usualOf(init)
	if err != nil {
		return record{}, err
	}
	pids, err := pidmap.Members(init)
	if err != nil {
		return record{}, err
	}
	r := record{Format: format}
	places := map[attrs]int{}
	for _, pid := range pids {
		if err := r.lookAt(pid, u, places); err != nil && !procfs.IsGone(err) {
			return r, err
		}
	}
	return r, nil
}

func (r *record) lookAt(pid int, u usual, places map[attrs]int) error {
	tids, err := threadsOf(pid)
	if err != nil {
		return err
	}
	found := make([]attrs, len(tids))
	if err := parallel.Each(len(tids), func(i int) (err error) {
		found[i], err = attrsOf(tids[i], u)
		if procfs.IsGone(err) {
			err = nil
		}
		return err
	}); err != nil {
		return err
	}
	job := 0 // the process's number there
	number := func(tid int) (int, error) {
		if job == 0 {
			if job, err = numberOf(pid, pid); err != nil {
				return 0, err
			}
		}
		return numberOf(pid, tid)
	}
	for i, a := range found {
		if a == (attrs{}) {
			continue
		}
		n, err := number(tids[i])
		if err != nil {
			return err
		}
		if n == 0 { // it has ended
			continue
		}
		at, ok := places[a]
		if !ok {
			at = len(r.Attrs)
			places[a], r.Attrs = at, append(r.Attrs, a)
		}
		r.Threads = append(r.Threads, [3]int{job, n, at})
	}
	filter, err := coredumpFilter(strconv.Itoa(pid))
	if errors.Is(err, errNoMemory) || err == nil && filter == u.filter {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := number(pid); err != nil {
		return err
	}
	r.Processes = append(r.Processes, process{PID: job, CoredumpFilter: &filter})
	return nil
}

// attrsOf returns what of a thread is unusual.
func attrsOf(tid int, u usual) (a attrs, err error) {
	cpus, err := affinity.Of(tid)
	if err != nil {
		return a, err
	}
	if cpus != u.cpus {
		a.CPUs = cpus
	}
	priority, _, errno := unix.RawSyscall(unix.SYS_IOPRIO_GET, ioprioWhoProcess, uintptr(tid), 0)
	if errno != 0 && errno != unix.ENOSYS {
		return a, fmt.Errorf("I/O priority of thread %d: %w", tid, errno)
	}
	a.IOPriority = uint32(priority)
	slack, err := readNumber(fmt.Sprintf("/proc/%d/timerslack_ns", tid), 10)
	if slack != namespaces.TimerSlack { // real time has none, 0
		a.TimerSlack = slack
	}
	return a, err
}

const ioprioWhoProcess = 1 // see ioprio_set(2)

// numberOf is a thread's number in its own pid namespace, 0 if it has ended.
func numberOf(pid, tid int) (int, error) {
	status, err := procfs.ReadFields(fmt.Sprintf("/proc/%d/task/%d/status", pid, tid))
	if err != nil {
		return 0, err
	}
	if state := status["State"]; strings.HasPrefix(state, "Z") || strings.HasPrefix(state, "X") {
		return 0, nil
	}
	f := strings.Fields(status["NSpid"])
	if len(f) == 0 {
		return 0, errors.New("the kernel does not tell pids in namespaces (CONFIG_PID_NS)")
	}
	return strconv.Atoi(f[len(f)-1])
}

// errNoMemory is of a process that has ended.
var errNoMemory = errors.New("it has no memory any more")

func coredumpFilter(process string) (uint32, error) {
	n, err := readNumber("/proc/"+process+"/coredump_filter", 16)
	return uint32(n), err
}

// readNumber reads a file of the kernel that has one.
func readNumber(path string, base int) (uint64, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	text := strings.TrimSpace(string(data))
	if text == "" {
		return 0, errNoMemory
	}
	n, err := strconv.ParseUint(text, base, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	return n, nil
}
