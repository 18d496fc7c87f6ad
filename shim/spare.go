package shim

import (
	"context"

	"github.com/migrate-hpc/migrate/checkpoint/criu"
	"github.com/migrate-hpc/migrate/restore"
)

// spare is what a waiting shim has started ahead of the restore, while the job still
// runs elsewhere.
type spare struct {
	guard *guard
	criu  *restore.Standby
}

// standBy starts it. What fails here is tried again at the restore.
func (s *shim) standBy() {
	if s.cfg.Chamber == nil {
		return
	}
	var err error
	if s.spare.guard, err = startGuard(s.cfg.RunDir); err != nil {
		s.log.Warn("start the guard ahead", "err", err)
	}
	s.spare.criu, err = restore.StandBy(context.Background(), s.criuClient(), *s.cfg.Chamber)
	if err != nil {
		s.log.Warn("start CRIU ahead", "err", err)
	}
}

func (s *shim) criuClient() *criu.Client { return criu.New(s.cfg.CRIU, s.cfg.KdatDir, s.log) }

// take returns the guard, which is started if need be, and the CRIU, which may be nil.
func (s *spare) take(runDir string) (*guard, *restore.Standby, error) {
	g, c := s.guard, s.criu
	s.guard, s.criu = nil, nil
	if g != nil {
		return g, c, nil
	}
	g, err := startGuard(runDir)
	if err != nil {
		c.Close()
		return nil, nil, err
	}
	return g, c, nil
}

func (s *spare) end() {
	s.criu.Close()
	if s.guard != nil {
		_ = s.guard.dismiss() // it holds nothing
	}
	s.guard, s.criu = nil, nil
}
