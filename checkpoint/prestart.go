package checkpoint

import (
	"context"

	"github.com/migrate-hpc/migrate/criu"
	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/namespaces/network"
)

// Prestart does what can be done before the freeze. It is optional.
func (s *Source) Prestart(ctx context.Context) error {
	mode, _ := s.network()
	return s.prestart(ctx, mode)
}

// prestart starts a CRIU that suits the network mode.
func (s *Source) prestart(ctx context.Context, mode image.Network) error {
	if s.prestarted.Lazy != nil && s.prestarted.network == mode {
		return nil
	}
	s.closePrestarted()
	run := criu.Run{}
	if mode == image.NetworkInherited {
		run.Before = func() error { return network.Enter(s.Init) }
	}
	lazy, err := s.CRIU.StartLazy(ctx, run)
	s.prestarted = prestarted{lazy, mode}
	return err
}

// takePrestarted is the CRIU to dump with. The caller uses it up.
func (s *Source) takePrestarted(ctx context.Context, mode image.Network) (*criu.Lazy, error) {
	err := s.prestart(ctx, mode)
	lazy := s.prestarted.Lazy
	s.prestarted = prestarted{}
	return lazy, err
}

func (s *Source) closePrestarted() {
	if s.prestarted.Lazy != nil {
		s.prestarted.Close()
	}
	s.prestarted = prestarted{}
}
