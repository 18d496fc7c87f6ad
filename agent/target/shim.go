package target

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/migrate-hpc/migrate/agent/caller"
	"github.com/migrate-hpc/migrate/agent/launch"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/namespaces"
	"github.com/migrate-hpc/migrate/shim"
)

// MakeRoom makes the room, unless it is there. It is tried when the move begins, so
// that the job need not stand still for it, and again when the job is here: an earlier
// copy may have taken until then to leave this node.
func (l *Job) MakeRoom(ctx context.Context, rec job.Record) (*room, error) {
	if l.room != nil {
		return l.room, nil
	}
	if _, err := l.a.ShimOf(l.Job).Status(ctx); !errors.Is(err, shim.ErrGone) {
		return nil, fmt.Errorf("an earlier copy of job %s has not left this node yet", l.Job)
	}
	roomy := rec
	roomy.Spec.Limits.Pids = 0 // CRIU works inside and has tasks of its own
	cg, err := l.a.Launcher.MakeCgroup(roomy, nil)
	if err != nil {
		return nil, err
	}
	r := &room{cgroup: cg, cfg: l.a.Launcher.ShimConfig(rec, l.IODir())}
	r.cfg.Cgroup, r.cfg.Store = *cg, l.pages()
	r.cfg.RestoreEnv = &namespaces.RestoreEnv{Keyring: string(rec.ID), Cgroup: cg, Root: rec.Spec.Root, RootDir: r.cfg.RootDir(), User: caller.OwnerOf(rec.Spec).User(), Network: !rec.Spec.UserNS}
	rec = launch.Arriving(rec)
	rec.Cgroup = cg.Dirs
	if err = l.Save(rec); err == nil {
		r.client, err = shim.Start(r.cfg, l.Dir())
	}
	if err != nil {
		return nil, errors.Join(err, cg.Remove(), os.RemoveAll(r.cfg.RunDir))
	}
	l.room = r
	return r, nil
}
