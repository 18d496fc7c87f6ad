package checkpoint

import (
	"errors"
	"fmt"
	"strings"

	"github.com/migrate-hpc/migrate/namespaces/cgroup"
	"github.com/migrate-hpc/migrate/procfs"
)

// Suspended says that a job is frozen or stopped, and not by a move.
type Suspended struct {
	// Cgroup is what they have frozen, "" if they have stopped processes.
	Cgroup string
	// ByUnknownMove says that Cgroup is the one that only moves freeze, and that no move known here
	// has frozen it. So another node may have the job.
	ByUnknownMove bool
	// Stopped are processes of the node that SIGSTOP has stopped.
	Stopped []int
}

func (s *Suspended) Error() string {
	if s.ByUnknownMove {
		return fmt.Sprintf("the job is suspended: %s, in which only moves freeze, is frozen, and no move that this node knows has done it", s.Cgroup)
	}
	if s.Cgroup != "" {
		return fmt.Sprintf("the job is suspended: the cgroup %s is frozen, and not by a move", s.Cgroup)
	}
	return fmt.Sprintf("the job is suspended: a signal has stopped processes %s, and where version 1 cgroups freeze they cannot be saved", pids(s.Stopped))
}

// ResumeHint is the command that resumes the job.
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

// FindSuspension finds out whether the job in c is suspended: frozen by another party than a move,
// or stopped. No move of the job may be under way.
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

// stopped are the processes in c that a signal has stopped. A version 1 freezer hides that once it
// holds them. Only the cgroup's processes are read: the downtime includes this, and on a busy node
// each file takes its time.
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

// refuseSuspended refuses a suspended job before we freeze it.
func (p *Processes) refuseSuspended() error {
	if p.frozenByUs {
		return p.checkSuspended()
	}
	by, err := FindSuspension(p.Cgroup)
	if err != nil || by == nil {
		return err
	}
	p.frozenByOther = by.Cgroup == p.Cgroup.FreezerDir()
	return by
}

// refuseStopped refuses a job with stopped tasks, where CRIU cannot save those.
func (p *Processes) refuseStopped() error {
	if p.frozenByUs {
		return nil // what is frozen shows no stop
	}
	by, err := findStopped(p.Cgroup)
	if err != nil || by == nil {
		return err
	}
	return by
}

// checkSuspended is the error for a job that was suspended since we froze it.
func (p *Processes) checkSuspended() error {
	dir, err := p.Cgroup.Suspended()
	if err != nil || dir == "" {
		return err
	}
	return &Suspended{Cgroup: dir}
}

// AsSuspended finds a [Suspended] in an error.
func AsSuspended(err error) (*Suspended, bool) {
	var s *Suspended
	return s, errors.As(err, &s)
}
