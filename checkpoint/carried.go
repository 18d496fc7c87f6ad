package checkpoint

import (
	"context"
	"errors"

	"github.com/migrate-hpc/migrate/carry"
	"github.com/migrate-hpc/migrate/carry/table"
)

// carried are the halves of the resources that CRIU does not carry.
type carried []carry.Source

func (s *Source) resources() carried {
	if s.carried == nil {
		s.carried = table.Carried.Sources(carry.Job{Init: s.Init, UserNS: s.UserNS, Dir: s.Dir, Images: s.Images()})
	}
	return s.carried
}

func (c carried) freeze(ctx context.Context) (external []string, err error) {
	for _, r := range c {
		more, err := r.Freeze(ctx)
		if err != nil {
			return nil, err
		}
		external = append(external, more...)
	}
	return external, nil
}

func (c carried) fixImages() error {
	for _, r := range c {
		if err := r.FixImages(); err != nil {
			return err
		}
	}
	return nil
}

// thaw lets no resource keep another one from its turn.
func (c carried) thaw() error {
	var errs []error
	for _, r := range c {
		errs = append(errs, r.Thaw())
	}
	return errors.Join(errs...)
}
