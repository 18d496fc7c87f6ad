package restore

import (
	"errors"

	"github.com/migrate-hpc/migrate/carry"
	"github.com/migrate-hpc/migrate/carry/table"
)

// each has a stage done for all resources, up to the first error.
func each(all []carry.Restorer, stage func(carry.Restorer) error) error {
	for _, r := range all {
		if err := stage(r); err != nil {
			return err
		}
	}
	return nil
}

// every lets no resource keep another one from its turn.
func every(all []carry.Restorer, stage func(carry.Restorer) error) error {
	var errs []error
	for _, r := range all {
		errs = append(errs, stage(r))
	}
	return errors.Join(errs...)
}

// Recover undoes what was done to the node by a Park whose process was killed; nothing of what
// that has restored may be left. Of the plan, Work, Mounts and the RestoreEnv's Root and User
// count.
func (plan Plan) Recover() error {
	return every(table.Carried.Restorers(plan.env()), carry.Restorer.Recover)
}
