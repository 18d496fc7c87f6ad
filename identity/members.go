package identity

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/migrate-hpc/migrate/parallel"
	"github.com/migrate-hpc/migrate/procfs"
)

// member is a thread in the job's pid namespace that has not ended.
type member struct {
	id     ID
	host   int // its number on the node
	dir    string
	thread Thread
}

// membersOf finds every thread in the pid namespace of init, not in those below it. It looks
// at every process of the node and reads the status of each thread once.
func membersOf(init int) ([]member, error) {
	ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", init))
	if err != nil {
		return nil, err
	}
	pids, err := procfs.Numbers("/proc")
	if err != nil {
		return nil, err
	}
	var all []member
	for _, pid := range pids {
		has, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid))
		if procfs.IsGone(err) || errors.Is(err, fs.ErrPermission) { // it has rights that we lack, so we did not start it
			continue
		}
		if err != nil {
			return nil, err
		}
		if has != ns {
			continue
		}
		threads, err := threadsOf(pid)
		if err != nil {
			return nil, err
		}
		all = append(all, threads...)
	}
	return all, nil
}

func threadsOf(pid int) ([]member, error) {
	leader, err := readStatus(fmt.Sprintf("/proc/%d", pid))
	if procfs.IsGone(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	tids, err := procfs.Numbers(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil && !procfs.IsGone(err) {
		return nil, err
	}
	all := make([]member, len(tids))
	err = parallel.Each(len(tids), func(i int) error {
		m := &all[i]
		m.host, m.dir = tids[i], fmt.Sprintf("/proc/%d/task/%d", pid, tids[i])
		st, err := readStatus(m.dir)
		if procfs.IsGone(err) || st.ended {
			m.dir = ""
			return nil
		}
		m.id, m.thread = ID{leader.number, st.number}, st.thread
		return err
	})
	return slices.DeleteFunc(all, func(m member) bool { return m.dir == "" }), err
}
