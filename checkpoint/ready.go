package checkpoint

import (
	"context"

	"github.com/migrate-hpc/migrate/criu"
	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/namespaces/network"
)

// standby is a CRIU that has been started before the job is frozen. It is of use
// if the job's network is still carried the same way then.
type standby struct {
	*criu.Lazy
	network image.Network
}

// Prestart does what can be done before the job is frozen. It may be left out.
func (s *Source) Prestart(ctx context.Context) error {
	mode, _ := s.network()
	return s.standBy(ctx, mode)
}

// standBy has a CRIU ready that suits the network.
func (s *Source) standBy(ctx context.Context, mode image.Network) error {
	if s.standby.Lazy != nil && s.standby.network == mode {
		return nil
	}
	s.endStandby()
	run := criu.Run{}
	if mode == image.NetworkInherited {
		run.Before = func() error { return network.Enter(s.Init) }
	}
	lazy, err := s.CRIU.StartLazy(ctx, run)
	s.standby = standby{lazy, mode}
	return err
}

// takeStandby is the CRIU to dump with; its caller uses it up.
func (s *Source) takeStandby(ctx context.Context, mode image.Network) (*criu.Lazy, error) {
	err := s.standBy(ctx, mode)
	lazy := s.standby.Lazy
	s.standby = standby{}
	return lazy, err
}

func (s *Source) endStandby() {
	if s.standby.Lazy != nil {
		s.standby.Close()
	}
	s.standby = standby{}
}
