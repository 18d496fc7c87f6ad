package cgroup

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/procfs"
)

// Unified names the version 2 hierarchy in Cgroup.Dirs.
const Unified = "unified"

// controllers of version 1 in which a job gets a directory.
var controllers = []string{"freezer", "memory", "cpu", "cpuacct", "pids"}

// tasksDir holds the tasks; "tasks" is a file of version 1. A job of an older agent has no such
// directory.
const tasksDir = "held"

// agentDir is the cgroup of an agent on a version 2 node:
//
//	what the agent was started in       controllers enabled for children, no tasks
//	 ├ migrate-agent                    the agent and its shims
//	 ├ migrate-NODE-JOB                 a job, with its limits
//	 └ migrate-NODE-JOB
//
// Version 2 enables controllers only for the children of a cgroup without tasks ("no internal
// processes", cgroup-v2.rst). So an agent that stayed where it was started could limit nothing.
const agentDir = "migrate-agent"

// parentForJobs is the cgroup for jobs that a process in dir starts. Jobs are siblings of an agent
// and children of any other process.
func parentForJobs(dir string) string {
	if filepath.Base(dir) == agentDir {
		return filepath.Dir(dir)
	}
	return dir
}

// enableControllers enables controllers for the children of dir, as far as dir has them.
func enableControllers(dir string, wanted ...string) error {
	data, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return fmt.Errorf("controllers of the cgroup: %w", err)
	}
	var enable []string
	for _, c := range strings.Fields(string(data)) {
		if slices.Contains(wanted, c) {
			enable = append(enable, "+"+c)
		}
	}
	if len(enable) == 0 {
		return nil
	}
	//house:allow os.WriteFile: a file of the kernel
	err = os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte(strings.Join(enable, " ")), 0)
	if errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("cgroup %s holds processes itself, so version 2 cannot limit what is beneath it: %w", dir, err)
	}
	if err != nil {
		return fmt.Errorf("hand down controllers: %w", err)
	}
	return nil
}

// Of returns the directory of pid's cgroup in each mounted hierarchy.
func Of(pid int) (map[string]string, error) {
	table, err := procfs.MountTable(os.Getpid())
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return nil, fmt.Errorf("cgroup of process %d: %w", pid, err)
	}
	return resolvePaths(cgroupMounts(table), string(data)), nil
}

type cgroupMount struct{ dir, root string }

// cgroupMounts finds where each hierarchy is mounted.
func cgroupMounts(table []procfs.MountPoint) map[string]cgroupMount {
	found := map[string]cgroupMount{}
	for _, m := range table {
		at := cgroupMount{dir: m.Target, root: strings.TrimSuffix(m.Root, "/")}
		switch m.Type {
		case "cgroup2":
			found[Unified] = at
		case "cgroup":
			for _, o := range strings.Split(m.SuperOptions, ",") {
				found[o] = at
			}
		}
	}
	return found
}

// resolvePaths translates the lines of /proc/PID/cgroup to directories. A cgroup outside of what
// is mounted here has none.
func resolvePaths(mounts map[string]cgroupMount, lines string) map[string]string {
	dirs := map[string]string{}
	for line := range strings.Lines(lines) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) != 3 {
			continue
		}
		names := strings.Split(f[1], ",")
		if f[1] == "" {
			names = []string{Unified}
		}
		for _, h := range names {
			m, ok := mounts[h]
			rest, within := strings.CutPrefix(strings.TrimSuffix(f[2], "/")+"/", m.root+"/")
			if ok && within && !strings.HasPrefix(rest, "../") {
				dirs[h] = filepath.Join(m.dir, rest)
			}
		}
	}
	return dirs
}

func freezerLast(a, b string) int {
	last := func(h string) int {
		if h == "freezer" {
			return 1
		}
		return 0
	}
	return cmp.Or(cmp.Compare(last(a), last(b)), cmp.Compare(a, b))
}
