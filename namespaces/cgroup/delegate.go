package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// DelegateControllers prepares the cgroup of this process for jobs with limits. On a node with
// version 1 controllers there is nothing to do. A second call changes nothing. After an error,
// jobs without limits can still be started.
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
