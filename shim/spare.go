package shim

import (
	"context"

	"github.com/migrate-hpc/migrate/criu"
	"github.com/migrate-hpc/migrate/logkey"
	"github.com/migrate-hpc/migrate/restore"
	"github.com/migrate-hpc/migrate/restore/pagestore"
)

// spare is what a waiting shim has started ahead of the restore, while the job still
// runs elsewhere.
type spare struct {
	guard *guard
	criu  *restore.Standby
	store *pagestore.Follower
}

// standBy starts it. What fails here is tried again at the restore.
func (s *shim) standBy() {
	if s.cfg.RestoreEnv == nil {
		return
	}
	var err error
	if s.spare.guard, err = startGuard(s.cfg.RunDir); err != nil {
		s.log.Warn("start the guard ahead", logkey.Err, err)
	}
	s.spare.criu, err = restore.StandBy(context.Background(), s.criuClient(), *s.cfg.RestoreEnv)
	if err != nil {
		s.log.Warn("start CRIU ahead", logkey.Err, err)
	}
	if s.cfg.Store == "" {
		return
	}
	if s.spare.store, err = pagestore.Follow(s.cfg.Store); err != nil {
		s.log.Warn("read the page store ahead", logkey.Err, err)
	}
}

func (s *shim) criuClient() *criu.Client { return criu.New(s.cfg.CRIU, s.cfg.KdatDir, s.log) }

// take hands everything over. The guard is started if need be, the others may be nil.
func (s *spare) take(runDir string) (spare, error) {
	if s.guard == nil {
		var err error
		if s.guard, err = startGuard(runDir); err != nil {
			return spare{}, err
		}
	}
	all := *s
	*s = spare{}
	return all, nil
}

func (s *spare) end() {
	s.criu.Close()
	s.store.Close()
	if s.guard != nil {
		_ = s.guard.dismiss() // it holds nothing
	}
	*s = spare{}
}
