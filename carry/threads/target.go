package threads

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/affinity"
	"github.com/migrate-hpc/migrate/carry"
	"github.com/migrate-hpc/migrate/pidmap"
)

type restorer struct {
	carry.NoRestorer
	images string
	saved  record
	init   int
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
	place, err := r.placement()
	if err != nil {
		return err
	}
	for _, t := range r.saved.Threads {
		tid, ok := here[[2]int{t[0], t[1]}]
		if !ok {
			return fmt.Errorf("there is no thread %d of process %d", t[1], t[0])
		}
		if err := r.saved.Attrs[t[2]].apply(tid, place); err != nil {
			return err
		}
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

// placement is for the processors that PID 1 of the copy has got.
func (r *restorer) placement() (p affinity.Placement, err error) {
	if p.Mode, err = affinity.ParseMode(string(r.saved.Affinity)); err != nil {
		return p, err
	}
	p.Bound = r.saved.bound()
	if p.Given, err = affinity.Of(r.init); err == nil && p.Mode == affinity.Keep && !p.Fits() {
		err = fmt.Errorf("threads are bound to processors %v, and this node gives %v; `migrate move --affinity map` binds them to others", p.Bound, p.Given)
	}
	return p, err
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
		if err := affinity.Set(tid, place.Place(a.CPUs)); err != nil {
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
