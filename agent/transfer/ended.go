package transfer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/procfs"
)

// ended is the error of an operation whose job ended before it was done, nil while the job may run.
// What failed of the operation follows from the end, and says nothing to its user.
func (a *Transfers) ended(id job.ID, err error) error {
	if errors.Is(err, handoff.ErrInDoubt) {
		return nil // another copy of it may run
	}
	ctx, cancel := context.WithTimeout(a.Life, endTime)
	defer cancel()
	exit := a.awaitExit(ctx, id)
	if exit == nil {
		return nil
	}
	how := fmt.Sprintf("with status %d", exit.Code)
	if exit.Signal != 0 {
		how = "by " + unix.SignalName(unix.Signal(exit.Signal))
	}
	if exit.OOMKills > 0 {
		how += "; the kernel has killed processes of it for want of memory"
	}
	return &api.Error{Code: api.CodeEnded, Message: fmt.Sprintf("job %s ended during the operation, %s", id, how), Where: "over, on " + a.Config.Node,
		Hint: fmt.Sprintf("`migrate wait %s` prints its status, `migrate logs %s` its output", id, id)}
}

// endTime is how long a shim may take to write down the end of a job whose last task has ended.
const endTime = 5 * time.Second

// awaitExit waits, until ctx ends, for how a job has ended whose first process has. It is nil for a job
// that runs, or is elsewhere.
func (a *Transfers) awaitExit(ctx context.Context, id job.ID) *job.Exit {
	for {
		st, asked := a.Status(ctx, id)
		rec, err := a.Jobs.Get(id)
		if err != nil || !rec.Here() || asked != nil || st.Exit != nil {
			return cmp.Or(rec.Exit, st.Exit)
		}
		if now, err := procfs.ReadStat(st.Init); err == nil && !now.Ended() {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(recordPause):
		}
	}
}

// recordPause is between two looks for the record of a job's end.
const recordPause = 10 * time.Millisecond
