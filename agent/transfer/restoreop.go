package transfer

import (
	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/progress"
	"github.com/migrate-hpc/migrate/agent/target"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/store"
	"github.com/migrate-hpc/migrate/timens"
)

// restoreOp is one restore of a job from a checkpoint.
type restoreOp struct {
	a         *Transfers
	req       api.RestoreRequest
	mode      timens.Mode
	id        handoff.MoveID
	tell      *progress.Progress
	saved     store.Checkpoint
	manifest  store.Manifest
	lanes     *store.Lanes // once they are read
	cargo     cargo
	rec       job.Record
	landing   *target.Job // once it is open
	asked     *handoff.Inquiry
	lastClaim int64
	claimed   bool
	settling  bool // in the background, which closes the checkpoint
}
