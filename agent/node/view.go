package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/namespaces/cgroup"
	"github.com/migrate-hpc/migrate/shim"
	"github.com/migrate-hpc/migrate/timens"
)

// A shim that does not answer proves nothing about a job's tasks: it may have been killed, or
// its socket removed. The job's own cgroup has the answer.

// NoTasksLeft tells whether err says that the shim has ended and the job's cgroup is empty. A
// cgroup that cannot be read is no proof.
func NoTasksLeft(rec job.Record, err error) bool {
	if !errors.Is(err, shim.ErrGone) {
		return false
	}
	n, err := CountTasks(rec)
	return err == nil && n == 0
}

// NotRunning is the error for a job that has ended, or whose shim cannot be reached.
func (n *Node) NotRunning(ctx context.Context, rec job.Record) error {
	return Ended(n.View(ctx, rec))
}

// Ended is the error for a job that does not run, by its state.
func Ended(v api.Job) error {
	if v.State == api.JobAstray {
		return Astray(v)
	}
	if v.State == api.JobSaved {
		return &api.Error{Code: api.CodeFailed, Message: fmt.Sprintf("job %s does not run here any more: it was saved", v.ID), Where: "in " + v.SavedIn + ", or where it was restored from there",
			Hint: "`migrate restore " + v.SavedIn + "` brings it back, or tells where it is"}
	}
	return &api.Error{Code: api.CodeFailed, Message: fmt.Sprintf("job %s does not run any more", v.ID), Where: "over", Hint: "`migrate inspect " + string(v.ID) + "` tells how it ended"}
}

// Astray is the error for a job whose tasks run without a shim.
func Astray(v api.Job) error {
	return &api.Error{Code: api.CodeFailed, Message: fmt.Sprintf("job %s is astray: no shim answers for it, but %d of its processes run", v.ID, v.Tasks),
		Where: fmt.Sprintf("on %s, in %s", v.Node, v.CgroupDir),
		Hint:  fmt.Sprintf("`migrate kill -s KILL %s` ends them, `migrate rm -f %s` forgets the job, too", v.ID, v.ID)}
}

// CountTasks counts the tasks in a job's cgroup, 0 without one.
func CountTasks(rec job.Record) (int, error) {
	cg := cgroup.Cgroup{Dirs: rec.Cgroup}
	if cg.FreezerDir() == "" {
		return 0, nil
	}
	pids, err := cg.Pids()
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	return len(pids), err
}

// View is a job as its record, its shim and the kernel have it now.
func (n *Node) View(ctx context.Context, rec job.Record) api.Job {
	v := api.Job{Record: rec, Node: n.Config.Node, State: api.JobRunning, CPU: rec.CPUBefore}
	switch {
	case rec.Exit != nil:
		v.State = api.JobExited
		v.CPU = rec.Exit.CPU
		return v
	case rec.MovedTo != nil:
		v.State = api.JobMoved
		return v
	case rec.SavedIn != "":
		v.State = api.JobSaved
		return v
	}
	st, err := n.Status(ctx, rec.ID)
	if errors.Is(err, shim.ErrGone) {
		return n.viewWithoutShim(v)
	}
	if err != nil { // it is busy, or suspended with its job
		v.State, v.SuspendedIn = n.RunState(rec)
		return v
	}
	if st.Exit != nil { // the disk did not take the record of its end
		v.Exit, v.State = st.Exit, api.JobExited
		v.CPU += st.Exit.CPU
		return v
	}
	v.Init, v.Shim, v.Filled, v.Total = st.Init, st.Shim, st.Filled, st.Total
	if v.Absent = st.Absent; v.Absent > 0 {
		v.PulledFrom = PreviousNode(rec)
	}
	cg := cgroup.Cgroup{Dirs: rec.Cgroup}
	v.CgroupDir = cg.Dir()
	if v.State, v.SuspendedIn = n.RunState(rec); st.State == shim.Parked || st.State == shim.Waiting || st.Waits {
		v.State, v.SuspendedIn = api.JobArriving, ""
	}
	if used, err := cg.CPUTime(); err == nil {
		v.CPU += time.Duration(used)
	}
	v.Memory = ResidentMemory(&cg)
	return v
}

// Status asks a job's shim, which has one second to answer.
func (n *Node) Status(ctx context.Context, id job.ID) (shim.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	return n.ShimOf(id).Status(ctx)
}

// viewWithoutShim reads the record again before it calls a job lost: a shim writes down the end
// before it exits.
func (n *Node) viewWithoutShim(v api.Job) api.Job {
	rec, err := n.Jobs.Get(v.ID)
	if err == nil && rec.Exit != nil {
		v.Record, v.State, v.CPU = rec, api.JobExited, rec.Exit.CPU
		return v
	}
	switch {
	case err == nil && rec.MovedTo != nil:
		v.Record, v.State = rec, api.JobMoved
		return v
	case err == nil && rec.SavedIn != "":
		v.Record, v.State = rec, api.JobSaved
		return v
	}
	v.State = api.JobLost
	if n, err := CountTasks(v.Record); err != nil || n > 0 {
		v.State, v.Tasks = api.JobAstray, max(n, 1) // what cannot be counted may be there
		cg := cgroup.Cgroup{Dirs: v.Cgroup}
		v.CgroupDir, v.Memory = cg.Dir(), ResidentMemory(&cg)
	}
	return v
}

// ResidentMemory is the resident memory of the tasks of a cgroup, in bytes; shared pages count once
// a task.
func ResidentMemory(cg *cgroup.Cgroup) int64 {
	pids, err := cg.Pids()
	if err != nil {
		return 0
	}
	var pages int64
	for _, pid := range pids {
		data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "statm"))
		if f := strings.Fields(string(data)); err == nil && len(f) > 1 {
			n, _ := strconv.ParseInt(f[1], 10, 64)
			pages += n
		}
	}
	return pages * int64(os.Getpagesize())
}

// ClocksOf is the time inside the time namespace of a process, nil if the kernel does not tell.
func ClocksOf(pid int) *api.Clocks {
	mono, boot, err := timens.Offsets(pid)
	if err != nil {
		return nil
	}
	now, err := timens.Host()
	if err != nil {
		return nil
	}
	in := now.In(mono, boot)
	return &api.Clocks{Monotonic: in.Monotonic, Boottime: in.Boottime, MonotonicOffset: mono, BoottimeOffset: boot}
}

// PreviousNode is the node that the job was on before this one.
func PreviousNode(rec job.Record) string {
	if n := len(rec.Placements); n > 1 {
		return rec.Placements[n-2].Node
	}
	return "another node"
}

// RunState tells whether a job that has begun to run here is frozen: [api.JobFrozen] for a move,
// [api.JobSuspended] in the cgroup that is returned, else [api.JobRunning].
func (n *Node) RunState(rec job.Record) (api.JobState, string) {
	cg := cgroup.Cgroup{Dirs: rec.Cgroup}
	if held, err := cg.SelfFreezing(); err == nil && held {
		if n.UnfinishedRole(rec.ID) == handoff.RoleSource || n.Journal.Guard(string(rec.ID), EarliestMove(rec)) != nil {
			return api.JobFrozen, ""
		}
		return api.JobSuspended, cg.FreezerDir()
	}
	if dir, err := cg.Suspended(); err == nil && dir != "" {
		return api.JobSuspended, dir
	}
	return api.JobRunning, ""
}
