package preflight

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/namespaces"
	"github.com/migrate-hpc/migrate/namespaces/cgroup"
	"github.com/migrate-hpc/migrate/pidmap"
	"github.com/migrate-hpc/migrate/procfs"
	"github.com/migrate-hpc/migrate/tmpfs"
)

// jobFacts is a job as it was seen once, and the process that looked.
type jobFacts struct {
	Tasks            []task
	Spaces           map[string]string // PID 1's namespaces: kind → name
	OutsideNamespace []process         // in the cgroup only
	OutsideCgroup    []process         // in the pid namespace only
	Links            []link            // Unix sockets that lead out of the job
	Pipes            []pipe            // FIFOs that do
	FreezerDir       string
	UserNS           bool
	TmpfsUsed        int64 // bytes on the job's own tmpfs mounts
	Carried          int64 // of them those that package tmpfs carries
	CopyOnWrite      int64 // bytes that copy-on-write saves
	Source           selfFacts

	view view
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
	j.view = newView(rec, mounts)
	j.TmpfsUsed, j.Carried = tmpfsUsed(initPID, j.view)
	entries, err := j.readMembers(ctx, initPID, cg)
	if err != nil {
		return nil, err
	}
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
	j.Pipes, err = readPipes(j)
	return j, err
}

func readTasks(ctx context.Context, entries []pidmap.Entry, v view, initPID int) ([]task, error) {
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

// readMembers finds the tasks of the job in both ways. The lists are taken after each
// other while tasks come and go, and a visitor that is just starting is in the cgroup
// before it is in the namespaces. So only what is on one of them all the time, and on the
// other never, counts.
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

// describeProcess describes a process that does not seem to be in the job. One that has
// ended meanwhile is none.
func describeProcess(pid int) (process, bool) {
	status, err := statusOf(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return process{}, false
	}
	p := process{Pid: pid, Comm: status["Name"]}
	p.PPid, _ = strconv.Atoi(status["PPid"])
	if nested := strings.Fields(status["NSpid"]); len(nested) > 0 {
		p.Job, _ = strconv.Atoi(nested[len(nested)-1])
	}
	if strings.HasPrefix(status["State"], "Z") {
		p.Headless = status["Threads"] != "1"
		return p, p.Headless
	}
	return p, true
}

func inBoth(a, b []process) []process {
	return slices.DeleteFunc(slices.Clone(a), func(p process) bool {
		return !slices.ContainsFunc(b, func(q process) bool { return p.Pid == q.Pid })
	})
}

func readSelf() (selfFacts, error) {
	status, err := statusOf("/proc/self/status")
	if err != nil {
		return selfFacts{}, err
	}
	caps, err := strconv.ParseUint(status["CapEff"], 16, 64)
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

// tmpfsUsed is what the job's own memory file systems hold, in bytes, and which part of
// it does not cross in CRIU's images.
func tmpfsUsed(initPID int, v view) (total, carried int64) {
	seen := map[string]bool{}
	for _, m := range v.mounts {
		if m.Type != "tmpfs" || seen[m.Device] || v.byMove(m, false) {
			continue
		}
		seen[m.Device] = true
		var st unix.Statfs_t
		if err := unix.Statfs(filepath.Join(fmt.Sprintf("/proc/%d/root", initPID), m.Target), &st); err == nil {
			used := int64(st.Blocks-st.Bfree) * int64(st.Bsize)
			total += used
			if slices.Contains(tmpfs.Dirs(), m.Target) {
				carried += used
			}
		}
	}
	return total, carried
}

// copyOnWrite is how much of a process's private memory it does not pay for alone, in
// bytes: over all processes that share a page the parts add up to what one copy saves.
// It is 0 where the kernel does not tell.
func copyOnWrite(pid int) int64 {
	sums, err := statusOf(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil || sums["Pss_Anon"] == "" {
		return 0
	}
	return max(0, kilobytes(sums["Anonymous"])-kilobytes(sums["Pss_Anon"]))
}

func itoa(n int) string { return strconv.Itoa(n) }
