package shim

import (
	"context"

	"github.com/migrate-hpc/migrate/criu"
	"github.com/migrate-hpc/migrate/logkey"
	"github.com/migrate-hpc/migrate/restore"
	"github.com/migrate-hpc/migrate/restore/pagestore"
)

// prestarted is what a waiting shim has started ahead of the restore, while the job still
// runs elsewhere.
type prestarted struct {
	guard *guard
	criu  *restore.PrestartedCRIU
	store *pagestore.Follower
}

// prestart starts it. What fails here is tried again at the restore.
func (s *shim) prestart() {
	if s.cfg.RestoreEnv == nil {
		return
	}
	var err error
	if s.prestarted.guard, err = startGuard(s.cfg.RunDir); err != nil {
		s.log.Warn("start the guard ahead", logkey.Err, err)
	}
	s.prestarted.criu, err = restore.PrestartCRIU(context.Background(), s.criuClient(), *s.cfg.RestoreEnv)
	if err != nil {
		s.log.Warn("start CRIU ahead", logkey.Err, err)
	}
	if s.cfg.Store == "" {
		return
	}
	if s.prestarted.store, err = pagestore.Follow(s.cfg.Store); err != nil {
		s.log.Warn("read the page store ahead", logkey.Err, err)
	}
}

func (s *shim) criuClient() *criu.Client { return criu.New(s.cfg.CRIU, s.cfg.KdatDir, s.log) }

// use hands everything over. The guard is started if need be, the others may be nil.
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
