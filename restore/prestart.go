package restore

import (
	"context"
	"errors"
	"os"

	"github.com/migrate-hpc/migrate/criu"
	"github.com/migrate-hpc/migrate/namespaces"
)

// PrestartedCRIU is a CRIU in the chamber of a job that is still to come: the job need not
// stand still for its start.
type PrestartedCRIU struct {
	criu    *criu.Standby
	network bool     // the chamber has a network namespace of its own
	entered *os.File // ends when CRIU is in its chamber, or gone
}

// PrestartCRIU starts a CRIU in a chamber. What is wrong with the chamber is told by the
// restore.
func PrestartCRIU(ctx context.Context, client *criu.Client, chamber namespaces.RestoreEnv) (*PrestartedCRIU, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer w.Close()
	chamber.Entered = int(criu.FD(0))
	wrap, err := chamber.Wrap()
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	s, err := client.Start(ctx, criu.Run{Wrap: wrap, Files: []*os.File{w}, Before: namespaces.ResetAttrs})
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return &PrestartedCRIU{criu: s, network: chamber.Network, entered: r}, nil
}

// Close ends a CRIU that is not needed. It may be nil.
func (s *PrestartedCRIU) Close() {
	if s == nil {
		return
	}
	s.criu.Close()
	_ = s.entered.Close() // only read
}
