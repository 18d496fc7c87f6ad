package checkpoint

import (
	"context"
	"fmt"
	"slices"

	"github.com/migrate-hpc/migrate/checkpoint/scan"
	"github.com/migrate-hpc/migrate/namespaces/cgroup"
	"github.com/migrate-hpc/migrate/pidmap"
	"github.com/migrate-hpc/migrate/stream"
)

// Processes are the job's processes on this node: they run, or are frozen. What is asked about them
// is asked of the kernel.
type Processes struct {
	Init   int // its PID 1, in our pid namespace
	Cgroup *cgroup.Cgroup

	// frozenByOther: their own cgroup was frozen before our freeze. Our thaw leaves that.
	// frozenByUs: our freeze has frozen them.
	frozenByOther, frozenByUs bool
	frozenAs                  []pidmap.Entry // what they were when our freeze was done; nil: they run
}

// tasks lists the processes of the job.
func (p *Processes) tasks() ([]scan.Task, error) {
	entries, err := p.frozenAs, error(nil)
	if entries == nil {
		entries, err = pidmap.InNamespace(p.Init)
	}
	if err != nil {
		return nil, err
	}
	if err := p.checkInit(); err != nil {
		return nil, err
	}
	var tasks []scan.Task
	for _, e := range entries {
		if !e.Zombie() {
			tasks = append(tasks, scan.Task{VPID: stream.VPID(e.Job), PID: e.Host, Began: e.Began})
		}
	}
	return tasks, nil
}

// checkInit fails if the job has ended. A process in the node's own namespaces may have the pid of
// its PID 1 then. Call checkInit after a look by that pid, and before its result is used. A
// process that has reused the pid is not in the job's cgroup.
func (p *Processes) checkInit() error {
	pids, err := p.Cgroup.Pids()
	if err == nil && !slices.Contains(pids, p.Init) {
		err = fmt.Errorf("process %d, the job's first, is not in the job's cgroup: the job has ended, or was moved to another cgroup", p.Init)
	}
	return err
}

// StillFrozen asks the kernel whether the job is frozen, by us and only by us. A job that was
// suspended meanwhile must not go on elsewhere.
func (p *Processes) StillFrozen(context.Context) error {
	held, err := p.Cgroup.SelfFreezing()
	if err != nil {
		return err
	}
	frozen, err := p.Cgroup.Frozen()
	if err != nil {
		return err
	}
	if !held || !frozen {
		return fmt.Errorf("the job runs, although it was frozen: %s was thawed", p.Cgroup.FreezerDir())
	}
	if err := p.checkAllFrozen(); err != nil {
		return err
	}
	return p.checkSuspended()
}

// checkAllFrozen fails if a task of the job is outside the frozen cgroup. Its user can move tasks
// to any cgroup that the user may write to. They run there.
func (p *Processes) checkAllFrozen() error {
	all, err := pidmap.InNamespace(p.Init)
	if err != nil {
		return err
	}
	pids, err := p.Cgroup.Pids()
	if err != nil {
		return err
	}
	for _, e := range all {
		if !e.Zombie() && !slices.Contains(pids, e.Host) {
			return fmt.Errorf("the job runs, although it was frozen: process %d (%s) was moved out of %s", e.Host, e.Comm, p.Cgroup.FreezerDir())
		}
	}
	return nil
}
