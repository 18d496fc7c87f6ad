package launch

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/caller"
	"github.com/migrate-hpc/migrate/agent/node"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/namespaces"
	"github.com/migrate-hpc/migrate/namespaces/cgroup"
	"github.com/migrate-hpc/migrate/shim"
)

// CheckWorkDir catches a common mistake: the job's /tmp is its own and empty, so a work directory in
// the node's /tmp does not exist there.
func CheckWorkDir(s job.Spec) error {
	if !strings.HasPrefix(s.WorkDir, "/tmp/") {
		return nil
	}
	for _, b := range s.Binds {
		if s.WorkDir == b.Target || strings.HasPrefix(s.WorkDir, b.Target+"/") {
			return nil
		}
	}
	return &api.Error{Code: api.CodeUsage, Message: fmt.Sprintf("the work directory %s does not exist in the job, whose /tmp is its own and empty", s.WorkDir),
		Hint: fmt.Sprintf("name another directory with `migrate run -w DIR`, or let the job see this one: `migrate run --bind %s`", s.WorkDir)}
}

// CheckBindTargets checks, with the caller's rights, that each bind has a mount point. The launch
// makes mount points in /tmp, which is the job's own, and none in the node's tree.
func CheckBindTargets(c caller.Caller, s job.Spec) error {
	for _, b := range s.Binds {
		if strings.HasPrefix(b.Target, "/tmp/") {
			continue
		}
		if err := caller.As(c, func() error { return namespaces.RootHas(s.Root, b.Target) }); err != nil {
			return &api.Error{Code: api.CodeUsage, Message: fmt.Sprintf("%s cannot be shown at %s: there is nothing of that name in the job's root", b.Source, b.Target),
				Hint: fmt.Sprintf("make it with `mkdir` or `touch`, or bind it somewhere in /tmp: `migrate run --bind %s:/tmp/%s`", b.Source, filepath.Base(b.Target))}
		}
	}
	return nil
}

// launchOnce starts a job that has no record yet. When it fails nothing is left.
func (l *Launcher) launchOnce(ctx context.Context, rec job.Record, c caller.Caller) (err error) {
	rec.Placements = []job.Placement{{Node: l.Config.Node, From: rec.Created}}
	if err := l.ClaimAddress(rec, func() error { return l.Jobs.Create(rec) }); err != nil {
		return err
	}
	free := l.ProbeNetwork(ctx, rec.Spec)
	defer free() // its result is read below
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Jobs.Remove(rec.ID))
		}
	}()
	if err := makeIODir(l.IODir(rec.ID), rec.Spec); err != nil {
		return err
	}
	cfg := l.ShimConfig(rec, l.IODir(rec.ID))
	ns, err := NamespaceConfig(rec, cfg.RootDir(), l.IODir(rec.ID))
	if err != nil {
		return err
	}
	cfg.Launch = &shim.Launch{Namespaces: ns, Interface: JobInterface(rec), Within: startTime}
	if err := free(); err != nil {
		return err
	}
	if rec.Foreground {
		if cfg.Join, err = joinableCgroups(c); err != nil {
			return err
		}
	}
	return l.startShim(rec, cfg)
}

// joinableCgroups are the caller's cgroups, as a scheduler has made them. It returns none that the
// caller can write to: only root may take the job out of a freezer.
func joinableCgroups(c caller.Caller) (map[string]string, error) {
	dirs, err := cgroup.Of(c.Pid)
	if err != nil {
		return nil, err
	}
	if err := c.Alive(); err != nil {
		return nil, err
	}
	if alone, err := cgroup.OnlyRootWrites(dirs); err != nil || !alone {
		return nil, err
	}
	return dirs, nil
}

// ShimConfig configures the shim of a job. ioDir holds the output when the shim starts.
func (l *Launcher) ShimConfig(rec job.Record, ioDir string) shim.Config {
	return shim.Config{
		Job: rec.ID, Records: l.Paths.Jobs(), RunDir: l.Paths.JobRun(rec.ID),
		Output: &shim.Output{Dir: ioDir, Limit: rec.Spec.OutputLimit, UID: rec.Spec.UID},
		CRIU:   l.CRIUPath, KdatDir: l.Paths.Kdat(), LinkName: node.LinkName(rec),
	}
}
