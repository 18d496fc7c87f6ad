package identity

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"

	"github.com/migrate-hpc/migrate/namespaces"
	"github.com/migrate-hpc/migrate/pidmap"
)

// Place is where a restored job must be, wholly, and nobody else.
type Place struct {
	Init   int // PID 1 of the job, on the node
	Cgroup *namespaces.Cgroup
	Beside int  // the process that restores it, in the same cgroup; 0 for none
	UserNS bool // the job has a user namespace of its own
}

// Look reads the identity of the job's threads, which must be stopped. It returns
// [Differences] if the job's cgroup and its pid namespace do not hold the same tasks, if they
// are not all in the namespaces of PID 1, or if those are not the job's own.
func (p Place) Look() (Job, error) {
	all, err := pidmap.InNamespace(p.Init)
	if err != nil {
		return Job{}, err
	}
	j, err := read(p.Init, all)
	if err != nil {
		return Job{}, err
	}
	alive := map[int]ID{} // by the numbers on the node
	ended := map[int]bool{}
	for _, e := range all {
		for _, t := range e.Threads {
			if id := (ID{e.Job, t.Job}); j.has(id) {
				alive[t.Host] = id
			} else {
				ended[t.Host] = true
			}
		}
	}
	var d Differences
	if err := p.sameCgroup(alive, ended, &d); err != nil {
		return Job{}, fmt.Errorf("the job's cgroup: %w", err)
	}
	if err := p.sameNamespaces(all, j, &d); err != nil {
		return Job{}, fmt.Errorf("the job's namespaces: %w", err)
	}
	return j, d.orNil()
}

// sameCgroup wants every thread of the job in every hierarchy of the cgroup, and nobody else
// but the threads of Beside. What has ended may be there still.
func (p Place) sameCgroup(alive map[int]ID, ended map[int]bool, d *Differences) error {
	members, err := p.Cgroup.Members()
	if err != nil {
		return err
	}
	beside, err := p.threadsBeside()
	if err != nil {
		return err
	}
	for _, hierarchy := range slices.Sorted(maps.Keys(members)) {
		cgroup := fmt.Sprintf("the cgroup %s (%s)", p.Cgroup.Dirs[hierarchy], hierarchy)
		inside := map[int]bool{}
		for _, tid := range members[hierarchy] {
			inside[tid] = true
			if _, ours := alive[tid]; !ours && !ended[tid] && !beside[tid] {
				d.add(cgroup, "a task that is not in the job's pid namespace,", fmt.Sprintf("%d on the node", tid), "none")
			}
		}
		for _, tid := range slices.Sorted(maps.Keys(alive)) {
			if !inside[tid] {
				d.add(alive[tid].String(), "a place outside of", cgroup, "none")
			}
		}
	}
	return nil
}

func (p Place) threadsBeside() (map[int]bool, error) {
	threads := map[int]bool{}
	if p.Beside == 0 {
		return threads, nil
	}
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", p.Beside))
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		tid, err := strconv.Atoi(e.Name())
		if err != nil {
			return nil, err
		}
		threads[tid] = true
	}
	return threads, nil
}

// children are what /proc/PID/ns has beside the kinds of namespaces: where a task's children
// will be.
var children = map[string]string{"pid_for_children": "pid", "time_for_children": "time"}

// sameNamespaces wants every thread in the namespaces of PID 1, and those to be the job's own.
func (p Place) sameNamespaces(all []pidmap.Entry, j Job, d *Differences) error {
	nodes, err := namespaces.Of(os.Getpid())
	if err != nil {
		return err
	}
	jobs, err := namespaces.Of(p.Init)
	if err != nil {
		return err
	}
	for _, kind := range namespaces.Kinds {
		own := kind != "user" || p.UserNS
		if has := jobs[kind] != nodes[kind]; has != own {
			d.add("the job", "as its "+kind+" namespace", whose(has), whose(own))
		}
	}
	for name, kind := range children {
		jobs[name] = jobs[kind]
	}
	for _, e := range all {
		for _, t := range e.Threads {
			id := ID{e.Job, t.Job}
			if !j.has(id) {
				continue
			}
			if err := d.sameNamespaces(id, taskDir(e.Host, t.Host), jobs); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *Differences) sameNamespaces(id ID, dir string, want map[string]string) error {
	for name, ns := range want {
		has, err := os.Readlink(dir + "/ns/" + name)
		if err != nil {
			return err
		}
		if has != ns {
			d.add(id.String(), "as its "+name+" namespace", has, ns)
		}
	}
	return nil
}
