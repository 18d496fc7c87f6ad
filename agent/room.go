package agent

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/namespaces"
	"github.com/migrate-hpc/migrate/shim"
)

// room is what a copy needs before anything of it can be restored: a cgroup of the
// job's own, and a shim that waits.
type room struct {
	cgroup *namespaces.Cgroup
	cfg    shim.Config
	client *shim.Client
}

// makeRoom makes the room, unless it is there. It is tried when the move begins, so
// that the job need not stand still for it, and again when the job is here: an earlier
// copy may have taken until then to leave this node.
func (l *landing) makeRoom(ctx context.Context, rec job.Record) (*room, error) {
	if l.room != nil {
		return l.room, nil
	}
	if _, err := l.a.shimOf(l.job).Status(ctx); !errors.Is(err, shim.ErrGone) {
		return nil, fmt.Errorf("an earlier copy of job %s has not left this node yet", l.job)
	}
	roomy := rec
	roomy.Spec.Limits.Pids = 0 // CRIU works inside and has tasks of its own
	cg, err := l.a.makeCgroup(roomy, nil)
	if err != nil {
		return nil, err
	}
	r := &room{cgroup: cg, cfg: l.a.shimConfig(rec, l.ioDir())}
	r.cfg.Cgroup, r.cfg.Store = *cg, l.pages()
	r.cfg.RestoreEnv = &namespaces.RestoreEnv{Keyring: string(rec.ID), Cgroup: cg, Root: rec.Spec.Root, RootDir: r.cfg.RootDir(), User: ownerOf(rec.Spec).user(), Network: !rec.Spec.UserNS}
	rec = arriving(rec)
	rec.Cgroup = cg.Dirs
	if err = l.save(rec); err == nil {
		r.client, err = shim.Start(r.cfg, l.dir())
	}
	if err != nil {
		return nil, errors.Join(err, cg.Remove(), os.RemoveAll(r.cfg.RunDir))
	}
	l.room = r
	return r, nil
}
