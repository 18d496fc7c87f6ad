package threads

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/affinity"
	"github.com/migrate-hpc/migrate/carry"
	"github.com/migrate-hpc/migrate/parallel"
	"github.com/migrate-hpc/migrate/pidmap"
)

type restorer struct {
	carry.NoRestorer
	images string
	saved  record
	init   int
	// cpus and nodes are where bound threads and memory policies go.
	cpus, nodes affinity.Placement
}

// NewRestorer is the half of the job's shim.
func NewRestorer(e carry.Env) carry.Restorer { return &restorer{images: e.Images} }

// Prepare reads what is to be set, and refuses it before CRIU has done anything.
func (r *restorer) Prepare() (err error) {
	r.saved, err = read(r.images)
	return err
}

func (r *restorer) NamespacesMade(init int) error {
	r.init = init
	return nil
}

// Parked sets it. CRIU's own code in the tasks does not change it any more.
func (r *restorer) Parked() error {
	if r.saved.empty() {
		return nil
	}
	if err := r.set(); err != nil {
		return fmt.Errorf("attributes of the job's threads: %w", err)
	}
	return nil
}

func (r *restorer) set() error {
	here, err := hostsOf(r.init)
	if err != nil {
		return err
	}
	if err := r.place(); err != nil {
		return err
	}
	if err := parallel.Each(len(r.saved.Threads), func(i int) error {
		t := r.saved.Threads[i]
		tid, ok := here[[2]int{t[0], t[1]}]
		if !ok {
			return fmt.Errorf("there is no thread %d of process %d", t[1], t[0])
		}
		return r.saved.Attrs[t[2]].apply(tid, r.cpus)
	}); err != nil {
		return err
	}
	for _, p := range r.saved.Processes {
		pid, ok := here[[2]int{p.PID, p.PID}]
		if !ok {
			return fmt.Errorf("there is no process %d", p.PID)
		}
		if p.CoredumpFilter != nil {
			if err := writeNumber(pid, "coredump_filter", uint64(*p.CoredumpFilter)); err != nil {
				return err
			}
		}
	}
	return nil
}

// place looks at what PID 1 of the copy has got.
func (r *restorer) place() error {
	mode, err := affinity.ParseMode(string(r.saved.Affinity))
	if err != nil {
		return err
	}
	cpus, err1 := affinity.Of(r.init)
	nodes, err2 := affinity.Nodes(r.init)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	r.cpus = affinity.Placement{Bound: r.saved.bound(), Given: cpus, Mode: mode}
	r.nodes = affinity.Placement{Bound: r.saved.nodes(), Given: nodes, Mode: mode}
	for what, p := range map[string]affinity.Placement{"threads are bound to processors": r.cpus, "memory is bound to nodes": r.nodes} {
		if mode == affinity.Keep && !p.Fits() {
			return fmt.Errorf("%s %v, and this node gives %v; `migrate move --affinity map` binds them to others", what, p.Bound, p.Given)
		}
	}
	return nil
}

// hostsOf maps pid and tid in the job to the thread's number here.
func hostsOf(init int) (map[[2]int]int, error) {
	entries, err := pidmap.InNamespace(init)
	if err != nil {
		return nil, err
	}
	here := map[[2]int]int{}
	for _, e := range entries {
		for _, t := range e.Threads {
			here[[2]int{e.Job, t.Job}] = t.Host
		}
	}
	return here, nil
}

func (a attrs) apply(tid int, place affinity.Placement) error {
	if !a.CPUs.Empty() && place.Mode != affinity.Drop {
		if err := affinity.Bind(tid, place.Place(a.CPUs)); err != nil {
			return err
		}
	}
	if a.IOPriority != 0 {
		if _, _, errno := unix.RawSyscall(unix.SYS_IOPRIO_SET, ioprioWhoProcess, uintptr(tid), uintptr(a.IOPriority)); errno != 0 {
			return fmt.Errorf("set I/O priority %#x of thread %d: %w", a.IOPriority, tid, errno)
		}
	}
	if a.TimerSlack != 0 {
		return writeNumber(tid, "timerslack_ns", a.TimerSlack)
	}
	return nil
}

func writeNumber(pid int, name string, n uint64) error {
	f, err := os.OpenFile(fmt.Sprintf("/proc/%d/%s", pid, name), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(strconv.FormatUint(n, 10))
	return errors.Join(err, f.Close())
}
