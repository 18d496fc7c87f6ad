package preflight

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/carry/table"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/namespaces"
	"github.com/migrate-hpc/migrate/namespaces/cgroup"
	"github.com/migrate-hpc/migrate/pidmap"
	"github.com/migrate-hpc/migrate/procfs"
)

func readJob(ctx context.Context, rec job.Record, initPID int, cg *cgroup.Cgroup) (*jobFacts, error) {
	j := &jobFacts{FreezerDir: cg.FreezerDir(), UserNS: rec.Spec.UserNS}
	var err error
	if j.Spaces, err = namespaces.Of(initPID); err != nil {
		return nil, err
	}
	if j.Source, err = readSelf(); err != nil {
		return nil, err
	}
	mounts, err := procfs.MountTable(initPID)
	if err != nil {
		return nil, err
	}
	j.view = newMountView(rec, mounts)
	entries, err := j.readMembers(ctx, initPID, cg)
	if err != nil {
		return nil, err
	}
	if err := j.view.addNested(j.Spaces["mnt"], hostPIDs(entries)); err != nil {
		return nil, err
	}
	j.TmpfsUsed, j.Carried = tmpfsUsed(initPID, j.view)
	if j.Tasks, err = readTasks(ctx, entries, j.view, initPID); err != nil {
		return nil, err
	}
	if len(j.Tasks) > 1 {
		for _, t := range j.Tasks {
			j.CopyOnWrite += copyOnWrite(t.Host)
		}
	}
	if j.Links, err = readLinks(ctx, j, initPID); err != nil {
		return nil, err
	}
	j.FIFOs, err = readFIFOs(j)
	return j, err
}

func hostPIDs(entries []pidmap.Entry) (pids []int) {
	for _, e := range entries {
		pids = append(pids, e.Host)
	}
	return pids
}

func readTasks(ctx context.Context, entries []pidmap.Entry, v mountView, initPID int) ([]task, error) {
	var tasks []task
	for _, e := range entries {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		t, err := readTask(e, v, initPID)
		if err != nil {
			return nil, err
		}
		tasks = append(tasks, t)
	}
	return tasks, nil
}

// readMembers finds the tasks of the job in two lists. They are read one after the other while
// tasks come and go. A command of `migrate exec` is in the cgroup before it is in the namespaces.
// So only a task that is always on one list and never on the other counts.
func (j *jobFacts) readMembers(ctx context.Context, initPID int, cg *cgroup.Cgroup) ([]pidmap.Entry, error) {
	const looks, pause = 10, 20 * time.Millisecond
	for try := 1; ; try++ {
		entries, err := pidmap.InNamespace(initPID)
		if err != nil {
			return nil, err
		}
		pids, err := cg.Pids()
		if err != nil {
			return nil, fmt.Errorf("processes in the job's cgroup: %w", err)
		}
		outNS, outCG := difference(entries, pids)
		if try > 1 {
			outNS, outCG = inBoth(j.OutsideNamespace, outNS), inBoth(j.OutsideCgroup, outCG)
		}
		j.OutsideNamespace, j.OutsideCgroup = outNS, outCG
		if try == looks || len(outNS)+len(outCG) == 0 {
			return entries, nil
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func difference(entries []pidmap.Entry, pids []int) (outsideNS, outsideCgroup []process) {
	inCgroup, inNS := map[int]bool{}, map[int]bool{}
	for _, pid := range pids {
		inCgroup[pid] = true
	}
	for _, e := range entries {
		inNS[e.Host] = true
		if !e.Zombie() && !inCgroup[e.Host] {
			outsideCgroup = append(outsideCgroup, process{Pid: e.Host, Job: e.Job, PPid: e.PPid, Comm: e.Comm})
		}
	}
	for _, pid := range pids {
		if inNS[pid] {
			continue
		}
		if p, ok := describeProcess(pid); ok {
			outsideNS = append(outsideNS, p)
		}
	}
	return outsideNS, outsideCgroup
}

func inBoth(a, b []process) []process {
	return slices.DeleteFunc(slices.Clone(a), func(p process) bool {
		return !slices.ContainsFunc(b, func(q process) bool { return p.Pid == q.Pid })
	})
}

func readSelf() (selfFacts, error) {
	status, err := procfs.ReadFields("/proc/self/status")
	if err != nil {
		return selfFacts{}, err
	}
	caps, err := status.Uint("CapEff", 16)
	if err != nil {
		return selfFacts{}, fmt.Errorf("capabilities of this process: %w", err)
	}
	user, err := os.Readlink("/proc/self/ns/user")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return selfFacts{}, err
	}
	return selfFacts{
		UID: uint32(os.Getuid()), GID: uint32(os.Getgid()),
		CapSysResource: caps&(1<<unix.CAP_SYS_RESOURCE) != 0, UserSpace: user,
	}, nil
}

// tmpfsUsed is what the job's own memory file systems hold, in bytes. The part carried does not
// travel in CRIU's images.
func tmpfsUsed(initPID int, v mountView) (total, carried int64) {
	seen := map[string]bool{}
	look := func(pid int, mounts []procfs.MountPoint, own bool) {
		for _, m := range mounts {
			if m.Type != "tmpfs" || seen[m.Device] || own && v.byMove(m, false) {
				continue
			}
			seen[m.Device] = true
			var st unix.Statfs_t
			if err := unix.Statfs(filepath.Join(fmt.Sprintf("/proc/%d/root", pid), m.Target), &st); err == nil {
				used := int64(st.Blocks-st.Bfree) * int64(st.Bsize)
				total += used
				if own && slices.Contains(table.Carried.BuiltMounts(), m.Target) {
					carried += used
				}
			}
		}
	}
	look(initPID, v.mounts, true)
	for _, n := range v.nested {
		if n.root != 0 {
			look(n.root, n.mounts, false)
		}
	}
	return total, carried
}

// copyOnWrite is how much of a process's private memory copy-on-write saves, in bytes. Over all
// processes that share a page the parts add up to what one copy saves. It is 0 where the kernel
// does not tell.
func copyOnWrite(pid int) int64 {
	sums, err := procfs.ReadFields(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil || sums["Pss_Anon"] == "" {
		return 0
	}
	return max(0, sums.Size("Anonymous")-sums.Size("Pss_Anon"))
}
