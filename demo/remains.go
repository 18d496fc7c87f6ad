package demo

import (
	"os"
	"path/filepath"
	"slices"

	"github.com/migrate-hpc/migrate/namespaces/cgroup"
)

// cgroupNames are the names that agents give to the cgroups of the demo's jobs.
// During a move the target has no record of the job yet, so each node's jobs count for all.
func cgroupNames(nodes []*node) []string {
	var names []string
	for _, n := range nodes {
		jobs, _ := os.ReadDir(filepath.Join(n.state, "jobs")) // absent if no agent has been here
		for _, j := range jobs {
			for _, on := range nodes {
				names = append(names, "migrate-"+on.name+"-"+j.Name())
			}
		}
	}
	return names
}

// findCgroups looks through every mounted hierarchy for cgroups by name.
func findCgroups(names []string) []cgroup.Cgroup {
	var groups []cgroup.Cgroup
	for _, name := range slices.Compact(slices.Sorted(slices.Values(names))) {
		if g, err := cgroup.Find(name); err == nil && len(g.Dirs) > 0 {
			groups = append(groups, *g)
		}
	}
	return groups
}

// remains lists what the clean-up has left.
func remains(cgroups []string, d dirs) (left []string) {
	for _, g := range findCgroups(cgroups) {
		for _, dir := range g.Dirs {
			left = append(left, "cgroup "+dir)
		}
	}
	for _, dir := range d.list() {
		if _, err := os.Stat(dir); err == nil {
			left = append(left, "directory "+dir)
		}
	}
	slices.Sort(left)
	return slices.Compact(left)
}
