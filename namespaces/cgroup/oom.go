package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// OOMKills is how many processes of the cgroup the kernel has killed for want of memory, be it the
// cgroup's own or the node's. Without a memory controller nobody counts them, and it is 0.
func (c *Cgroup) OOMKills() (int64, error) {
	file := filepath.Join(c.Dir(), "memory.events")
	if !c.isUnified() {
		dir, ok := c.Dirs["memory"]
		if !ok {
			return 0, nil
		}
		file = filepath.Join(dir, "memory.oom_control")
	}
	data, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if v, ok := strings.CutPrefix(line, "oom_kill "); ok {
			return strconv.ParseInt(strings.TrimSpace(v), 10, 64)
		}
	}
	return 0, fmt.Errorf("%s without oom_kill", file)
}
