package threads

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/migrate-hpc/migrate/parallel"
	"github.com/migrate-hpc/migrate/pidmap"
	"github.com/migrate-hpc/migrate/procfs"
)

// look looks at all processes of a job that stands still.
func look(init int) (record, error) {
	u, err := usualOf(init)
	if err != nil {
		return record{}, err
	}
	pids, err := pidmap.Members(init)
	if err != nil {
		return record{}, err
	}
	all := make([]member, len(pids))
	if err := parallel.Each(len(pids), func(i int) error {
		all[i] = member{pid: pids[i]}
		return all[i].look(u)
	}); err != nil {
		return record{}, err
	}
	r := record{Format: format}
	places := map[attrs]int{}
	for _, m := range all {
		if err := r.add(m, places); err != nil {
			return record{}, err
		}
	}
	return r, nil
}

// member is a process of the job, by its numbers on the node.
type member struct {
	pid     int
	tids    []int
	threads []attrs
	process process
}

// look finds little of a process that has ended, which is no error.
func (m *member) look(u usual) (err error) {
	filter, err := coredumpFilter(strconv.Itoa(m.pid))
	if errors.Is(err, errNoMemory) {
		return nil
	}
	if unlessGone(err) != nil {
		return err
	}
	if err == nil && filter != u.filter {
		m.process.CoredumpFilter = &filter
	}
	if m.process.MergeAny, err = mergesAny(m.pid); err != nil {
		return unlessGone(err)
	}
	m.process.Areas, err = areasOf(m.pid, func() (policy, error) { return m.lookAtThreads(u) })
	return unlessGone(err)
}

// lookAtThreads returns the policy of the main thread.
func (m *member) lookAtThreads(u usual) (main policy, err error) {
	if m.tids, err = procfs.Numbers(fmt.Sprintf("/proc/%d/task", m.pid)); err != nil {
		return main, err
	}
	m.threads = make([]attrs, len(m.tids))
	err = parallel.Each(len(m.tids), func(i int) (err error) {
		m.threads[i], err = attrsOf(m.pid, m.tids[i], u)
		return unlessGone(err)
	})
	if leader := slices.Index(m.tids, m.pid); leader >= 0 {
		main = m.threads[leader].Policy
	}
	return main, err
}

func unlessGone(err error) error {
	if procfs.IsGone(err) {
		return nil
	}
	return err
}

// add adds what is unusual, by the numbers in the job.
func (r *record) add(m member, places map[attrs]int) error {
	process := m.process.CoredumpFilter != nil || m.process.fromWithin()
	if !process && !slices.ContainsFunc(m.threads, func(a attrs) bool { return a != attrs{} }) {
		return nil
	}
	pid, err := numberOf(m.pid, m.pid)
	if err != nil || pid == 0 {
		return unlessGone(err)
	}
	if process {
		m.process.PID = pid
		r.Processes = append(r.Processes, m.process)
	}
	for i, a := range m.threads {
		if a == (attrs{}) {
			continue
		}
		n, err := numberOf(m.pid, m.tids[i])
		if err := unlessGone(err); err != nil {
			return err
		}
		if n == 0 { // it has ended
			continue
		}
		at, ok := places[a]
		if !ok {
			at = len(r.Attrs)
			places[a], r.Attrs = at, append(r.Attrs, a)
		}
		r.Threads = append(r.Threads, [3]int{pid, n, at})
	}
	return nil
}
