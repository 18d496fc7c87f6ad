package transfer

import (
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/preflight"
)

// cargo is what a checkpoint says about the job in it.
type cargo struct {
	Record job.Record      `json:"record"`
	Needs  preflight.Needs `json:"needs"`
}
