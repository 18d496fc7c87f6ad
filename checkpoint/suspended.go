package checkpoint

import (
	"errors"
	"fmt"
	"strings"

	"github.com/migrate-hpc/migrate/namespaces/cgroup"
	"github.com/migrate-hpc/migrate/procfs"
)

// Suspended says that a job is frozen, and not by us.
type Suspended struct {
	// Cgroup is what they have frozen, "" if they have stopped processes.
	Cgroup string
	// ByUnknownMove: Cgroup is the one in which only moves freeze, and no move that is known here has.
	// So another node may have the job.
	ByUnknownMove bool
	// Stopped are processes of the node that SIGSTOP holds.
	Stopped []int
}

func (s *Suspended) Error() string {
	if s.ByUnknownMove {
		return fmt.Sprintf("the job is suspended: %s, in which only moves freeze, is frozen, and no move that this node knows has done it", s.Cgroup)
	}
	if s.Cgroup != "" {
		return fmt.Sprintf("the job is suspended: somebody else has frozen the cgroup %s", s.Cgroup)
	}
	return fmt.Sprintf("the job is suspended: a signal has stopped processes %s, and where version 1 cgroups freeze they cannot be saved", pids(s.Stopped))
}

// ResumeHint is what to type to end it.
func (s *Suspended) ResumeHint() string {
	if s.Cgroup == "" {
		return "kill -CONT " + pids(s.Stopped)
	}
	thaw := "`" + cgroup.ThawCommand(s.Cgroup) + "`"
	if s.ByUnknownMove {
		return "look on all nodes whether another one has the job (`migrate ps -a`, `migrate moves --all`): if so, `migrate rm -f` ends this copy; only if none has it: " + thaw
	}
	return "resume it where it was suspended (Slurm: `scontrol resume`); by hand: " + thaw
}

func pids(list []int) string {
	return strings.Trim(fmt.Sprint(list), "[]")
}

// FindSuspension finds out whether somebody else than a move keeps the job that lives in c
// from running. No move of the job may be under way.
func FindSuspension(c *cgroup.Cgroup) (*Suspended, error) {
	held, err := c.SelfFreezing()
	if err != nil {
		return nil, err
	}
	if held {
		return &Suspended{Cgroup: c.FreezerDir(), ByUnknownMove: true}, nil
	}
	dir, err := c.Suspended()
	if err != nil {
		return nil, err
	}
	if dir != "" {
		return &Suspended{Cgroup: dir}, nil
	}
	return findStopped(c)
}

// findStopped finds processes that a signal has stopped, where that matters.
func findStopped(c *cgroup.Cgroup) (*Suspended, error) {
	if c.CanDumpStopped() {
		return nil, nil
	}
	stopped, err := stopped(c)
	if err != nil || len(stopped) == 0 {
		return nil, err
	}
	return &Suspended{Stopped: stopped}, nil
}

// stopped are the processes in c that a signal has stopped. Once a version 1 freezer
// holds them that is not visible any more. It asks for those of the cgroup only, not for
// all of the node: the job waits for the answer, and on a busy node each file takes its time.
func stopped(c *cgroup.Cgroup) ([]int, error) {
	all, err := c.Pids()
	if err != nil {
		return nil, err
	}
	var found []int
	for _, pid := range all {
		if stat, err := procfs.ReadStat(pid); err == nil && stat.State == 'T' { // with an error it has ended
			found = append(found, pid)
		}
	}
	return found, nil
}

// refuseSuspended refuses a job that somebody else keeps from running, before we freeze it.
func (s *Source) refuseSuspended() error {
	if s.frozenByUs {
		return s.checkSuspended()
	}
	by, err := FindSuspension(s.Cgroup)
	if err != nil || by == nil {
		return err
	}
	s.frozenByOther = by.Cgroup == s.Cgroup.FreezerDir()
	return by
}

// refuseStopped refuses a job with tasks that a signal has stopped, where those cannot be saved.
func (s *Source) refuseStopped() error {
	if s.frozenByUs {
		return nil // what is frozen shows no stop
	}
	by, err := findStopped(s.Cgroup)
	if err != nil || by == nil {
		return err
	}
	return by
}

// checkSuspended is the error for a job that somebody else has suspended since we froze it.
func (s *Source) checkSuspended() error {
	dir, err := s.Cgroup.Suspended()
	if err != nil || dir == "" {
		return err
	}
	return &Suspended{Cgroup: dir}
}

// AsSuspended finds the reason in an error.
func AsSuspended(err error) (*Suspended, bool) {
	var s *Suspended
	return s, errors.As(err, &s)
}
