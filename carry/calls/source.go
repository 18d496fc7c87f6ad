package calls

import (
	"context"
	"time"

	"github.com/migrate-hpc/migrate/carry"
	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/parallel"
	"github.com/migrate-hpc/migrate/pidmap"
)

type source struct {
	carry.NoSource
	job    carry.Job
	seen   map[int]sight
	clocks processorClocks
	frozen time.Duration // when the job was about to be, on our MONOTONIC
	found  []mend        // by Threads, for Mend
}

// NewSource is the half of the node that a job leaves.
func NewSource(j carry.Job) carry.Source { return &source{job: j} }

// Look finds out how long threads have been in their calls. What it cannot find out it leaves.
func (s *source) Look(context.Context) error {
	s.seen, s.clocks, _ = look(s.job.Processes)
	s.frozen = monotonic()
	return nil
}

// Freeze forgets the calls that have ended before the freeze.
func (s *source) Freeze(context.Context) (external []string, err error) {
	if len(s.seen) == 0 {
		return nil, nil
	}
	type thread struct{ pid, tid, job int }
	var all []thread
	err = eachThread(s.job.Processes, func(pid int, t pidmap.Thread) {
		if _, ok := s.seen[t.Job]; ok {
			all = append(all, thread{pid, t.Host, t.Job})
		}
	})
	if err != nil {
		return nil, err
	}
	same := make([]bool, len(all))
	err = parallel.Each(len(all), func(i int) error {
		now, err := readScheduled(taskDir(all[i].pid, all[i].tid))
		same[i] = err == nil && s.isSame(s.seen[all[i].job], now)
		return nil
	})
	for i, t := range all {
		if !same[i] {
			delete(s.seen, t.job)
		}
	}
	return nil, err
}

// isSame tells whether a frozen thread is in the call in which it was seen.
func (s *source) isSame(was sight, now scheduled) bool {
	if now.switches == was.switches+1 { // the freeze has woken it, or it is in a new call
		at, known := s.clocks.monotonic(now)
		return known && at >= s.frozen
	}
	return now.switches == was.switches
}

// FixImages sets interrupted threads back to their calls. Beside the images it notes what the target
// must do before they run.
func (s *source) FixImages() error {
	pids := map[int]int{}
	err := eachThread(s.job.Processes, func(pid int, t pidmap.Thread) { pids[t.Job] = pid })
	if err != nil {
		return err
	}
	var there []mend
	err = image.EditCalls(s.job.Images, func(c image.Call) *image.Again {
		m, ok := s.mend(c, pids[c.Thread])
		switch {
		case !ok:
			return nil
		case m.Need != noArg:
			there = append(there, m)
			return nil
		case c.Awaited:
			return nil
		}
		return &m.Again
	})
	if err != nil || len(there) == 0 {
		return err
	}
	return writeMends(s.job.Images, there)
}

// mend says how an interrupted call goes on, if it may.
func (s *source) mend(c image.Call, pid int) (m mend, ok bool) {
	m = mend{Thread: c.Thread, Number: c.Number, IP: c.IP, Need: noArg}
	was, seen := s.seen[c.Thread]
	seen = seen && was.call == (call{c.Number, c.Args, c.IP})
	if seen {
		c.Number = was.goesOn
	}
	if !mayRepeat(c.Number) {
		return m, false
	}
	m.Again = image.Again{Number: c.Number, Args: c.Args}
	l, ok := limitOf(c.Number, c.Args)
	if !ok {
		return m, true
	}
	var err error
	switch {
	case seen:
		m.Left = max(0, was.limit-(s.frozen-was.asleep))
	case l.rest != 0 && c.Args[l.rest] != 0:
		// The kernel has written the rest when the thread was stopped.
		m.Left, err = readTimespec(pid, c.Args[l.rest])
		m.Left += monotonic() - s.frozen
	default:
		m.Left, err = l.read(pid, c.Args)
	}
	if err == nil { // else the call will say so
		m.Again, m.Need = l.again(c, m.Left)
	}
	return m, true
}

// Threads are those that a freeze or a dump may have interrupted, of a job that is still frozen.
func (s *source) Threads() (list []int) {
	s.found = nil
	if s.frozen == 0 { // an agent that has restarted was not there at the freeze
		s.frozen = monotonic()
	}
	err := eachThread(s.job.Processes, func(pid int, t pidmap.Thread) {
		c, ok := readCall(taskDir(pid, t.Host))
		if !ok {
			return
		}
		if m, ok := s.mend(image.Call{Thread: t.Job, Number: c.number, Args: c.args, IP: c.ip, Filtered: filtered(pid)}, pid); ok {
			s.found, list = append(s.found, m), append(list, t.Job)
		}
	})
	if err != nil { // the job has ended
		return nil
	}
	return list
}

// Mend has the calls go on here.
func (s *source) Mend(stopped threads) error { return mendAll(s.found, stopped) }

// eachThread shows the threads of processes with the pids of these on this node.
func eachThread(processes func() ([]pidmap.Entry, error), show func(pid int, t pidmap.Thread)) error {
	entries, err := processes()
	if err != nil {
		return err
	}
	for _, e := range entries {
		for _, t := range e.Threads {
			show(e.Host, t)
		}
	}
	return nil
}
