package launch

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/caller"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/namespaces"
	"github.com/migrate-hpc/migrate/procfs"
)

// Inherit gives a job what a child of its caller would have: the umask, and the resource limits
// that the request does not name. A limit above the agent's own is cut to that: the kernel may not
// let the agent raise it.
func Inherit(s *job.Spec, c caller.Caller) error {
	mask, err := umaskOf(c.Pid)
	if err != nil {
		return err
	}
	s.Umask = mask
	theirs, err := limitsOf(c.Pid)
	if err != nil {
		return err
	}
	if !c.Root() {
		if err := checkHardLimits(s.Rlimits, theirs); err != nil {
			return err
		}
	}
	for name, limit := range theirs {
		if slices.ContainsFunc(s.Rlimits, func(l job.Rlimit) bool { return l.Name == name }) {
			continue
		}
		var ours unix.Rlimit
		if err := unix.Getrlimit(rlimits[name], &ours); err != nil {
			return err
		}
		limit.Hard = min(limit.Hard, ours.Max)
		limit.Soft = min(limit.Soft, limit.Hard)
		s.Rlimits = append(s.Rlimits, limit)
	}
	slices.SortFunc(s.Rlimits, func(a, b job.Rlimit) int { return strings.Compare(a.Name, b.Name) })
	return nil
}

// checkHardLimits refuses what a process without privileges could not set for a child: the job sets
// its named limits while it is still root.
func checkHardLimits(named []job.Rlimit, theirs map[string]job.Rlimit) error {
	for _, l := range named {
		most := theirs[l.Name].Hard
		if l.Hard <= most {
			continue
		}
		return &api.Error{Code: api.CodeUsage,
			Message: fmt.Sprintf("--ulimit %s: the hard limit %s is above your own, which is %s", l.Name, limitText(l.Hard), limitText(most)),
			Hint:    fmt.Sprintf("`migrate run --ulimit %s=%s …` is the most that you may name; root raises it in limits.conf(5)", l.Name, limitText(most))}
	}
	return nil
}

func limitText(n uint64) string {
	if n == job.Unlimited {
		return "unlimited"
	}
	return strconv.FormatUint(n, 10)
}

func limitsOf(pid int) (map[string]job.Rlimit, error) {
	list, err := namespaces.LimitsOf(pid)
	if err != nil {
		return nil, fmt.Errorf("of the caller: %w", err)
	}
	limits := map[string]job.Rlimit{}
	for name, resource := range rlimits {
		for _, l := range list {
			if l.Resource == resource {
				limits[name] = job.Rlimit{Name: name, Soft: l.Soft, Hard: l.Hard}
			}
		}
	}
	return limits, nil
}

func umaskOf(pid int) (uint32, error) {
	status, err := procfs.ReadStatus(pid)
	if err != nil {
		return 0, fmt.Errorf("umask of the caller: %w", err)
	}
	n, err := status.Uint("Umask", 8)
	return uint32(n), err
}
