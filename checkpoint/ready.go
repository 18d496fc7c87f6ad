package checkpoint

import (
	"context"

	"github.com/migrate-hpc/migrate/criu"
	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/namespaces"
)

// standby is a CRIU that has been started before the job is frozen. It is of use
// if the job's network is still carried the same way then.
type standby struct {
	*criu.Lazy
	network image.Network
}

// Prestart does what can be done before the job is frozen. It may be left out.
func (s *Source) Prestart(ctx context.Context) error {
	network, _ := s.network()
	return s.standBy(ctx, network)
}

// standBy has a CRIU ready that suits the network.
func (s *Source) standBy(ctx context.Context, network image.Network) error {
	if s.standby.Lazy != nil && s.standby.network == network {
		return nil
	}
	s.endStandby()
	run := criu.Run{}
	if network == image.NetworkInherited {
		run.Before = func() error { return namespaces.EnterNetwork(s.Init) }
	}
	lazy, err := s.CRIU.StartLazy(ctx, run)
	s.standby = standby{lazy, network}
	return err
}

// takeStandby is the CRIU to dump with; its caller uses it up.
func (s *Source) takeStandby(ctx context.Context, network image.Network) (*criu.Lazy, error) {
	err := s.standBy(ctx, network)
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
