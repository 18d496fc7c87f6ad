package preflight

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// readFIFOs looks through the whole node, if the job has a FIFO.
func readFIFOs(j *jobFacts) ([]outsideFIFO, error) {
	mine := map[[3]uint64]outsideFIFO{}
	for _, t := range j.Tasks {
		for _, d := range t.Opened {
			if d.kind() == unix.S_IFIFO && filepath.IsAbs(d.Link) {
				mine[d.key()] = outsideFIFO{Who: t.String(), Held: d}
			}
		}
	}
	if len(mine) == 0 {
		return nil, nil
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var found []outsideFIFO
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || j.within(pid) {
			continue
		}
		for _, key := range fifosOf(pid) {
			p, ok := mine[key]
			if !ok {
				continue
			}
			if p.Other, ok = describeProcess(pid); ok {
				found = append(found, p)
			}
		}
	}
	return found, nil
}

// within tells whether a process is in the job's pid namespace, or gone.
func (j *jobFacts) within(pid int) bool {
	space, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid))
	return err != nil || space == j.Spaces["pid"]
}

// fifosOf lists the FIFOs that a process has open, each once.
func fifosOf(pid int) (keys [][3]uint64) {
	links, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil {
		return nil
	}
	seen := map[[3]uint64]bool{}
	for _, l := range links {
		if name, err := os.Readlink(l); err != nil || !filepath.IsAbs(name) {
			continue
		}
		i, err := statx(l, unix.AT_STATX_DONT_SYNC)
		if err == nil && i.kind() == unix.S_IFIFO && !seen[i.key()] {
			seen[i.key()] = true
			keys = append(keys, i.key())
		}
	}
	return keys
}
