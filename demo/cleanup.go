package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/namespaces/cgroup"
)

const cleanUpTime = 40 * time.Second

// cleanUp removes everything that the demo has made, first through the agents, then by
// force. It returns what is left.
func (d *demo) cleanUp(ctx context.Context) (left []string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTime)
	defer cancel()
	d.stopFollowing()
	names := cgroupNames(d.nodes) // while the jobs are known
	for _, n := range d.nodes {
		appendError(&left, n.removeJobs(ctx))
	}
	for _, n := range d.nodes {
		appendError(&left, n.stop(ctx))
	}
	names = append(names, cgroupNames(d.nodes)...) // a job may have been about to start
	for _, n := range d.nodes {
		appendError(&left, n.sweep(ctx, findCgroups(names)))
	}
	if d.network != nil {
		appendError(&left, d.network.close())
	}
	appendError(&left, d.dirs.remove())
	return append(left, remains(names, d.dirs)...)
}

func appendError(left *[]string, err error) {
	if err != nil {
		*left = append(*left, err.Error())
	}
}

// removeJobs ends and forgets the jobs on the node, as `migrate rm -f` does. It retries
// while a job moves away.
func (n *node) removeJobs(ctx context.Context) error {
	if n.agent == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, removeTime)
	defer cancel()
	for {
		jobs, err := n.client.Jobs(ctx)
		var e *api.Error
		if errors.As(err, &e) && e.Code == api.CodeUnreachable {
			return nil // the agent is gone: sweep ends the jobs
		}
		busy := false
		for _, j := range jobs {
			if j.Here() {
				err = errors.Join(err, n.client.Remove(ctx, string(j.ID), true))
				busy = true
			}
		}
		if err == nil && !busy {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil // sweep ends the jobs
		case <-time.After(20 * time.Millisecond):
		}
	}
}

const removeTime = 10 * time.Second

// sweep kills what the agent has left: the jobs in their cgroups, then every process in
// the node's network namespace, shims and CRIU among them.
func (n *node) sweep(ctx context.Context, groups []cgroup.Cgroup) error {
	var errs []error
	for _, g := range groups {
		errs = append(errs, g.Kill(ctx))
	}
	errs = append(errs, n.killAll(ctx))
	for _, g := range groups {
		errs = append(errs, g.Remove())
	}
	return errors.Join(errs...)
}

// killAll waits two seconds for the processes in the node's network namespace, as a shim
// ends by itself after its job. Then it kills them.
func (n *node) killAll(ctx context.Context) error {
	for patience := 200; ; patience-- {
		pids, err := n.processes()
		if err != nil || len(pids) == 0 {
			return err
		}
		if patience <= 0 {
			if _, err := cgroup.KillTasks(pids, n.processes); err != nil {
				return fmt.Errorf("end the processes of %s: %w", n.name, err)
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("processes %v of %s do not end", pids, n.name)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// processes lists those in the node's network namespace.
func (n *node) processes() ([]int, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(n.ns), &st); err != nil {
		return nil, err
	}
	want := fmt.Sprintf("net:[%d]", st.Ino)
	entries, err := os.ReadDir("/proc")
	var pids []int
	for _, e := range entries {
		pid, notPid := strconv.Atoi(e.Name())
		if notPid != nil || pid == os.Getpid() {
			continue
		}
		if ns, err := os.Readlink(filepath.Join("/proc", e.Name(), "ns/net")); err == nil && ns == want {
			pids = append(pids, pid)
		}
	}
	return pids, err
}
