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

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/namespaces"
	"github.com/migrate-hpc/migrate/pidmap"
)

// jobFacts is a job as it was seen once, and the process that looked.
type jobFacts struct {
	Tasks            []task
	Spaces           map[string]string // PID 1's namespaces: kind → name
	OutsideNamespace []process         // in the cgroup only
	OutsideCgroup    []process         // in the pid namespace only
	Unix             []unixSocket      // of the job's network namespace
	FreezerDir       string
	UserNS           bool
	TmpfsUsed        int64 // bytes on the job's own tmpfs mounts
	Source           looker

	view view
}

// looker is this process, whose rights CRIU will have.
type looker struct {
	UID, GID       uint32
	CapSysResource bool
	UserSpace      string // name of the user namespace
}

func (j *jobFacts) has(pid int) bool {
	return slices.ContainsFunc(j.Tasks, func(t task) bool { return t.Host == pid })
}

func readJob(ctx context.Context, rec job.Record, initPID int, cg *namespaces.Cgroup) (*jobFacts, error) {
	j := &jobFacts{FreezerDir: cg.FreezerDir(), UserNS: rec.Spec.UserNS}
	var err error
	if j.Spaces, err = namespaces.Of(initPID); err != nil {
		return nil, err
	}
	if j.Source, err = lookAtSelf(); err != nil {
		return nil, err
	}
	mounts, err := namespaces.MountTable(initPID)
	if err != nil {
		return nil, err
	}
	j.view = newView(rec, mounts)
	j.TmpfsUsed = tmpfsUsed(initPID, j.view)
	if j.Unix, err = unixSockets(initPID); err != nil {
		return nil, fmt.Errorf("unix sockets of the job: %w", err)
	}
	entries, err := j.readMembers(initPID, cg)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		t, err := readTask(e, j.view, initPID)
		if err != nil {
			return nil, err
		}
		j.Tasks = append(j.Tasks, t)
	}
	return j, nil
}

// readMembers finds the tasks of the job in both ways. The lists are taken after
// each other while tasks come and go, so only what is on one of them twice, and on
// the other never, counts.
func (j *jobFacts) readMembers(initPID int, cg *namespaces.Cgroup) ([]pidmap.Entry, error) {
	for try := 0; ; try++ {
		entries, err := pidmap.InNamespace(initPID)
		if err != nil {
			return nil, err
		}
		pids, err := cg.Pids()
		if err != nil {
			return nil, fmt.Errorf("processes in the job's cgroup: %w", err)
		}
		outNS, outCG := difference(entries, pids)
		if try == 0 {
			j.OutsideNamespace, j.OutsideCgroup = outNS, outCG
		} else {
			j.OutsideNamespace, j.OutsideCgroup = both(j.OutsideNamespace, outNS), both(j.OutsideCgroup, outCG)
		}
		if try == 1 || len(outNS)+len(outCG) == 0 {
			return entries, nil
		}
	}
}

func difference(entries []pidmap.Entry, pids []int) (outsideNS, outsideCgroup []process) {
	for _, e := range entries {
		if !e.Zombie() && !slices.Contains(pids, e.Host) {
			outsideCgroup = append(outsideCgroup, process{Pid: e.Host, Job: e.Job, PPid: e.PPid, Comm: e.Comm})
		}
	}
	for _, pid := range pids {
		if slices.ContainsFunc(entries, func(e pidmap.Entry) bool { return e.Host == pid }) {
			continue
		}
		status, err := statusOf(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil || strings.HasPrefix(status["State"], "Z") {
			continue // has ended meanwhile
		}
		ppid, _ := strconv.Atoi(status["PPid"])
		outsideNS = append(outsideNS, process{Pid: pid, PPid: ppid, Comm: status["Name"]})
	}
	return outsideNS, outsideCgroup
}

func both(a, b []process) []process {
	return slices.DeleteFunc(slices.Clone(a), func(p process) bool {
		return !slices.ContainsFunc(b, func(q process) bool { return p.Pid == q.Pid })
	})
}

func lookAtSelf() (looker, error) {
	status, err := statusOf("/proc/self/status")
	if err != nil {
		return looker{}, err
	}
	caps, err := strconv.ParseUint(status["CapEff"], 16, 64)
	if err != nil {
		return looker{}, fmt.Errorf("capabilities of this process: %w", err)
	}
	user, err := os.Readlink("/proc/self/ns/user")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return looker{}, err
	}
	return looker{
		UID: uint32(os.Getuid()), GID: uint32(os.Getgid()),
		CapSysResource: caps&(1<<unix.CAP_SYS_RESOURCE) != 0, UserSpace: user,
	}, nil
}

// tmpfsUsed is what the job's own memory file systems hold, in bytes. The
// content of each crosses in the images.
func tmpfsUsed(initPID int, v view) int64 {
	var total int64
	seen := map[string]bool{}
	for _, m := range v.mounts {
		if m.Type != "tmpfs" || seen[m.Device] || v.byMove(m, false) {
			continue
		}
		seen[m.Device] = true
		var st unix.Statfs_t
		if err := unix.Statfs(filepath.Join(fmt.Sprintf("/proc/%d/root", initPID), m.Target), &st); err == nil {
			total += int64(st.Blocks-st.Bfree) * int64(st.Bsize)
		}
	}
	return total
}

// unixSockets lists those of the network namespace of pid, by sock_diag(7).
func unixSockets(pid int) ([]unixSocket, error) {
	ns, err := netns.GetFromPid(pid)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	h, err := netlink.NewHandleAt(ns, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	found, err := h.UnixSocketDiagInfo()
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, err
	}
	var list []unixSocket
	for _, s := range found {
		u := unixSocket{Ino: s.DiagMsg.INode}
		if s.Peer != nil {
			u.Peer = *s.Peer
		}
		if s.Name != nil {
			u.Name = *s.Name
		}
		list = append(list, u)
	}
	return list, nil
}

func itoa(n int) string { return strconv.Itoa(n) }
