package cgroup

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Threads lists the threads in the cgroup, of every hierarchy that it has. In a version 1
// hierarchy a thread can be elsewhere than its process.
func (c *Cgroup) Threads() (map[string][]int, error) {
	members := map[string][]int{}
	for h, dir := range c.Dirs {
		file := "tasks"
		if h == Unified {
			file = "cgroup.threads"
		}
		data, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			return nil, err
		}
		for _, f := range strings.Fields(string(data)) {
			tid, err := strconv.Atoi(f)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", file, err)
			}
			members[h] = append(members[h], tid)
		}
	}
	return members, nil
}
