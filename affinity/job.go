package affinity

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/pidmap"
	"github.com/migrate-hpc/migrate/procfs"
)

// Given are the processors that a job with this PID 1 was given at its launch: those of its shim,
// which is the parent.
func Given(init int) (Set, error) {
	status, err := procfs.ReadStatus(init)
	if err != nil {
		return Set{}, err
	}
	parent, err := status.Uint("PPid", 10)
	if err != nil {
		return Set{}, err
	}
	return Of(int(parent))
}

// Nodes are the nodes of memory that a process may use. A kernel without such nodes says none.
func Nodes(pid int) (Set, error) {
	status, err := procfs.ReadStatus(pid)
	if err != nil {
		return Set{}, err
	}
	return Parse(strings.TrimSpace(status["Mems_allowed_list"]))
}

// BoundIn are the processors that threads of a job are bound to, together. The job may run.
func BoundIn(init int) (all Set, err error) {
	usual, err := Given(init)
	if err != nil {
		return all, err
	}
	pids, err := pidmap.Members(init)
	if err != nil {
		return all, err
	}
	for _, pid := range pids {
		tids, err := procfs.Numbers(fmt.Sprintf("/proc/%d/task", pid))
		if err != nil && !procfs.IsGone(err) {
			return all, err
		}
		for _, tid := range tids {
			cpus, err := Of(tid)
			if err != nil && !errors.Is(err, unix.ESRCH) {
				return all, err
			}
			if err == nil && cpus != usual {
				all.Add(cpus)
			}
		}
	}
	return all, nil
}
