package restore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/criu"
	"github.com/migrate-hpc/migrate/criu/image"
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

// attach shows CRIU the mounts that are attached nowhere else.
func (s *PrestartedCRIU) attach(plan Plan) error {
	if _, err := io.Copy(io.Discard, s.entered); err != nil {
		return fmt.Errorf("wait for CRIU in its chamber: %w", err)
	}
	mounts := map[string]*os.File{}
	defer func() {
		for _, f := range mounts {
			_ = f.Close() // nothing was written
		}
	}()
	for _, m := range plan.Private {
		f, err := os.OpenFile(m.Path, unix.O_PATH, 0)
		if err != nil {
			return err
		}
		mounts[m.Dir] = f
	}
	for _, b := range plan.Binds {
		f, err := b.OpenDetached(plan.RestoreEnv.User)
		if err != nil {
			return err
		}
		mounts[b.Dir] = f
	}
	return namespaces.AttachMounts(s.criu.Pid(), mounts)
}

// ready returns a CRIU in a chamber that suits the network: the one that stands by, if
// the job's network is carried as was expected, or else another.
func (plan Plan) prestartedFor(ctx context.Context, client *criu.Client, mode image.Network) (*PrestartedCRIU, error) {
	chamber, s := plan.RestoreEnv, plan.Prestarted
	chamber.Network = mode == image.NetworkInherited
	if s == nil || s.network != chamber.Network {
		s.Close()
		var err error
		if s, err = PrestartCRIU(ctx, client, chamber); err != nil {
			return nil, err
		}
	}
	if err := s.attach(plan); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}
