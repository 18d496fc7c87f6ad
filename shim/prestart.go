package shim

import (
	"context"
	"log/slog"

	"github.com/migrate-hpc/migrate/criu"
	"github.com/migrate-hpc/migrate/logkey"
	"github.com/migrate-hpc/migrate/restore"
	"github.com/migrate-hpc/migrate/restore/pagestore"
)

// prestarted is what a waiting shim has started before the restore, while the job still runs
// elsewhere.
type prestarted struct {
	guard *guard
	criu  *restore.PrestartedCRIU
	store *pagestore.Follower
}

// start starts it. The restore tries again what fails here.
func (s *prestarted) start(cfg Config, client *criu.Client, log *slog.Logger) {
	if cfg.RestoreEnv == nil {
		return
	}
	var err error
	if s.guard, err = startGuard(cfg.RunDir); err != nil {
		log.Warn("start the guard ahead", logkey.Err, err)
	}
	s.criu, err = restore.PrestartCRIU(context.Background(), client, *cfg.RestoreEnv)
	if err != nil {
		log.Warn("start CRIU ahead", logkey.Err, err)
	}
	if cfg.Store == "" {
		return
	}
	if s.store, err = pagestore.Follow(cfg.Store); err != nil {
		log.Warn("read the page store ahead", logkey.Err, err)
	}
}

// use hands everything over. It starts a missing guard; the others may be nil.
func (s *prestarted) use(runDir string) (prestarted, error) {
	if s.guard == nil {
		var err error
		if s.guard, err = startGuard(runDir); err != nil {
			return prestarted{}, err
		}
	}
	all := *s
	*s = prestarted{}
	return all, nil
}

func (s *prestarted) close() {
	s.criu.Close()
	s.store.Close()
	if s.guard != nil {
		_ = s.guard.dismiss() // it holds nothing
	}
	*s = prestarted{}
}
