package restore

import "github.com/migrate-hpc/migrate/carry"

// each has a stage done for all resources, up to the first error.
func each(all []carry.Restorer, stage func(carry.Restorer) error) error {
	for _, r := range all {
		if err := stage(r); err != nil {
			return err
		}
	}
	return nil
}
