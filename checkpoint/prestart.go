package checkpoint

import (
	"context"

	"github.com/migrate-hpc/migrate/criu"
	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/namespaces/network"
)

// Prestart does what can be done before the freeze. It is optional.
func (s *Source) Prestart(ctx context.Context) error {
	mode, _ := s.network.mode(&s.Processes, s.Interface)
	return s.prestarted.start(ctx, s.CRIU, s.Init, mode)
}

// prestarted is a CRIU that was started before the freeze. It can be used if the job's network is
// still carried the same way.
type prestarted struct {
	criu    *criu.Lazy // nil: none
	network image.Network
}

// start starts a CRIU that suits the network mode, unless there is one.
func (p *prestarted) start(ctx context.Context, by *criu.Client, init int, mode image.Network) error {
	if p.criu != nil && p.network == mode {
		return nil
	}
	p.close()
	run := criu.Run{}
	if mode == image.NetworkInherited {
		run.Before = func() error { return network.Enter(init) }
	}
	lazy, err := by.StartLazy(ctx, run)
	*p = prestarted{lazy, mode}
	return err
}

// take is the CRIU to dump with. The caller uses it up.
func (p *prestarted) take(ctx context.Context, by *criu.Client, init int, mode image.Network) (*criu.Lazy, error) {
	err := p.start(ctx, by, init, mode)
	lazy := p.criu
	*p = prestarted{}
	return lazy, err
}

func (p *prestarted) close() {
	if p.criu != nil {
		p.criu.Close()
	}
	*p = prestarted{}
}
