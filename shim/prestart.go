package shim

import (
	"context"

	"github.com/migrate-hpc/migrate/logkey"
	"github.com/migrate-hpc/migrate/restore"
	"github.com/migrate-hpc/migrate/restore/pagestore"
)

// prestart starts it. The restore tries again what fails here.
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
