package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// agentDir is the cgroup that an agent keeps itself in on a version 2 node:
//
//	what the agent was started in       controllers handed down, no tasks
//	 ├ migrate-agent                    the agent and its shims
//	 ├ migrate-NODE-JOB                 a job, with its limits
//	 └ migrate-NODE-JOB
//
// Version 2 hands controllers down only from a cgroup without tasks (the rule of
// "no internal processes", cgroup-v2.rst), so an agent that stayed where it was
// started could limit nothing.
const agentDir = "migrate-agent"

// DelegateControllers prepares the cgroup that this process is in for jobs with limits. On a
// node with version 1 controllers there is nothing to do. Doing it twice is doing it
// once. After an error jobs without limits can still be started.
func DelegateControllers() error {
	dirs, err := Of(os.Getpid())
	if err != nil {
		return err
	}
	if dirs[Unified] == "" || dirs["freezer"] != "" {
		return nil
	}
	return delegateIn(parentForJobs(dirs[Unified]), os.Getpid())
}

// parentForJobs is where the jobs of a process in dir go: beside an agent, beneath
// everybody else.
func parentForJobs(dir string) string {
	if filepath.Base(dir) == agentDir {
		return filepath.Dir(dir)
	}
	return dir
}

func delegateIn(dir string, pid int) error {
	// The root of the hierarchy, which alone lacks this file, may hold both.
	if _, err := os.Stat(filepath.Join(dir, "cgroup.type")); err == nil {
		leaf := filepath.Join(dir, agentDir)
		if err := os.Mkdir(leaf, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return fmt.Errorf("make the agent's cgroup: %w", err)
		}
		//house:allow os.WriteFile: a file of the kernel
		if err := os.WriteFile(filepath.Join(leaf, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0); err != nil {
			return fmt.Errorf("enter the agent's cgroup: %w", err)
		}
	}
	return enableControllers(dir, "memory", "cpu", "pids")
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
