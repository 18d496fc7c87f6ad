package identity

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/namespaces"
	"github.com/migrate-hpc/migrate/namespaces/cgroup"
	"github.com/migrate-hpc/migrate/parallel"
	"github.com/migrate-hpc/migrate/procfs"
)

// Place is where a restored job must be, wholly, and nobody else.
type Place struct {
	Init   int // PID 1 of the job, on the node
	Cgroup *cgroup.Cgroup
	Beside int  // the process that restores it, in the same cgroup; 0 for none
	UserNS bool // the job has a user namespace of its own
}

// Look reads the identity of the job's threads, which must be stopped. It returns
// [Differences] if the job's cgroup and its pid namespace do not hold the same tasks, if they
// are not all in the namespaces of PID 1 or in nested ones, or if those are not the job's own.
func (p Place) Look() (Job, error) {
	all, err := membersOf(p.Init)
	if err != nil {
		return Job{}, err
	}
	var d, elsewhere Differences
	j, err := jobOfMembers(p.Init, all, &elsewhere)
	if err != nil {
		return Job{}, err
	}
	if err := p.sameCgroup(all, &d); err != nil {
		return Job{}, fmt.Errorf("the job's cgroup: %w", err)
	}
	if err := p.ownNamespaces(&d); err != nil {
		return Job{}, fmt.Errorf("the job's namespaces: %w", err)
	}
	return j, append(d, elsewhere...).orNil()
}

// sameCgroup wants every thread of the job in every hierarchy of the cgroup, and nobody else
// but the threads of Beside, and what has ended.
func (p Place) sameCgroup(all []member, d *Differences) error {
	members, err := p.Cgroup.Threads()
	if err != nil {
		return err
	}
	ours, err := p.threadsBeside()
	if err != nil {
		return err
	}
	for _, m := range all {
		ours[m.host] = true
	}
	for _, hierarchy := range slices.Sorted(maps.Keys(members)) {
		cgroup := fmt.Sprintf("the cgroup %s (%s)", p.Cgroup.Dirs[hierarchy], hierarchy)
		inside := map[int]bool{}
		for _, tid := range members[hierarchy] {
			inside[tid] = true
			if !ours[tid] && !ended(tid) {
				d.add(cgroup, "a task that is not in the job's pid namespace,", fmt.Sprintf("%d on the node", tid), "none")
			}
		}
		for _, m := range all {
			if !inside[m.host] {
				d.add(m.id.String(), "a place outside of", cgroup, "none")
			}
		}
	}
	return nil
}

func ended(tid int) bool {
	st, err := readStatus(fmt.Sprintf("/proc/%d", tid))
	return procfs.IsGone(err) || err == nil && st.ended
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

// ownNamespaces wants the namespaces of PID 1 to be the job's own.
func (p Place) ownNamespaces(d *Differences) error {
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
	return nil
}

// otherNamespacesOf are, for each thread, those that are not PID 1's.
func otherNamespacesOf(init int, all []member) ([]map[string]string, error) {
	jobs, err := namespaces.Of(init)
	if err != nil {
		return nil, err
	}
	for name, kind := range children {
		jobs[name] = jobs[kind]
	}
	others := make([]map[string]string, len(all))
	err = parallel.Each(len(all), func(i int) (err error) {
		others[i], err = otherNamespaces(all[i].dir+"/ns", jobs)
		return err
	})
	return others, err
}

// otherNamespaces are those that are not as wanted. Each is looked up from its directory:
// to begin at the top takes most of the time.
func otherNamespaces(dir string, want map[string]string) (map[string]string, error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(fd)
	var other map[string]string
	var buf [64]byte
	for name, ns := range want {
		n, err := unix.Readlinkat(fd, name, buf[:])
		if err != nil {
			return nil, &os.PathError{Op: "readlink", Path: dir + "/" + name, Err: err}
		}
		if has := buf[:n]; string(has) != ns {
			if other == nil {
				other = map[string]string{}
			}
			other[name] = string(has)
		}
	}
	return other, nil
}
