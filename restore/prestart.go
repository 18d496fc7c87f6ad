package restore

import (
	"context"
	"errors"
	"os"

	"github.com/migrate-hpc/migrate/criu"
	"github.com/migrate-hpc/migrate/namespaces"
)

// PrestartedCRIU is a CRIU in the environment of a job that has not arrived yet. Its start is no
// part of the downtime.
type PrestartedCRIU struct {
	criu    *criu.Standby
	network bool     // its environment has a network namespace
	entered *os.File // ends when CRIU has entered its environment, or has ended
}

// PrestartCRIU starts a CRIU in an environment. An error of the environment shows at the restore.
func PrestartCRIU(ctx context.Context, client *criu.Client, env namespaces.RestoreEnv) (*PrestartedCRIU, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer w.Close()
	env.Entered = int(criu.FD(0))
	wrap, err := env.Wrap()
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	s, err := client.Start(ctx, criu.Run{Wrap: wrap, Files: []*os.File{w}, Before: namespaces.ResetAttrs})
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return &PrestartedCRIU{criu: s, network: env.Network, entered: r}, nil
}

// Close ends a CRIU that is not needed. It may be nil.
func (s *PrestartedCRIU) Close() {
	if s == nil {
		return
	}
	s.criu.Close()
	_ = s.entered.Close() // only read
}
