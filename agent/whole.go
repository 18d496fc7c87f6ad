package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/humanize"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/shim"
)

// fillPause is how often a job is looked at whose memory is being put in place.
const fillPause = 10 * time.Millisecond

// awaitWhole waits until all memory of a job that came here is in place: what is not
// would be saved as zeros. It refuses a job whose memory has not all arrived.
func (a *Agent) awaitWhole(ctx context.Context, rec job.Record) error {
	for {
		st, err := a.shimOf(rec.ID).Status(ctx)
		switch {
		case errors.Is(err, shim.ErrGone) || err == nil && !st.Filling:
			return nil
		case err != nil:
			return err
		case st.Absent > 0:
			return a.stillPulled(rec, st.Absent)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(fillPause):
		}
	}
}

func (a *Agent) stillPulled(rec job.Record, absent int64) error {
	return &api.Error{Code: api.CodeRefused, Message: fmt.Sprintf("memory is still being pulled from %s: %s are to come", cameFrom(rec), humanize.Size(absent)),
		Where: "on " + a.cfg.Node + ", running", Hint: "wait until all is here; `migrate inspect " + string(rec.ID) + "` shows how much is to come"}
}

// cameFrom is the node that the job was on before.
func cameFrom(rec job.Record) string {
	if n := len(rec.Placements); n > 1 {
		return rec.Placements[n-2].Node
	}
	return "another node"
}
