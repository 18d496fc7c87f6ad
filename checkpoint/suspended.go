package checkpoint

import (
	"errors"
	"fmt"

	"github.com/migrate-hpc/migrate/namespaces/cgroup"
)

// Suspended says that a job is frozen, and not by a move.
type Suspended struct {
	// Cgroup is what they have frozen.
	Cgroup string
	// ByUnknownMove says that Cgroup is the one that only moves freeze, and that no move known here
	// has frozen it. So another node may have the job.
	ByUnknownMove bool
}

func (s *Suspended) Error() string {
	if s.ByUnknownMove {
		return fmt.Sprintf("the job is suspended: %s, in which only moves freeze, is frozen, and no move that this node knows has done it", s.Cgroup)
	}
	return fmt.Sprintf("the job is suspended: the cgroup %s is frozen, and not by a move", s.Cgroup)
}

// ResumeHint is the command that resumes the job.
func (s *Suspended) ResumeHint() string {
	thaw := "`" + cgroup.ThawCommand(s.Cgroup) + "`"
	if s.ByUnknownMove {
		return "look on all nodes whether another one has the job (`migrate ps -a`, `migrate moves --all`): if so, `migrate rm -f` ends this copy; only if none has it: " + thaw
	}
	return "resume it where it was suspended (Slurm: `scontrol resume`); by hand: " + thaw
}

// FindSuspension finds out whether the job in c is suspended: frozen by another party than a
// move. No move of the job may be under way.
func FindSuspension(c *cgroup.Cgroup) (*Suspended, error) {
	held, err := c.SelfFreezing()
	if err != nil {
		return nil, err
	}
	if held {
		return &Suspended{Cgroup: c.FreezerDir(), ByUnknownMove: true}, nil
	}
	dir, err := c.Suspended()
	if err != nil || dir == "" {
		return nil, err
	}
	return &Suspended{Cgroup: dir}, nil
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
