package transfer

import (
	"time"

	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/logkey"
)

// insist calls do until it succeeds or the agent ends.
func (a *Recovery) insist(complaint string, m handoff.MoveID, do func() error) {
	for pause := firstRetry; ; pause = min(2*pause, lastRetry) {
		err := do()
		if err == nil || a.Life.Err() != nil {
			return
		}
		a.Log.Error(complaint, logkey.Move, m, logkey.Err, err)
		select {
		case <-a.Life.Done():
			return
		case <-time.After(pause):
		}
	}
}

const (
	firstRetry = 500 * time.Millisecond
	lastRetry  = time.Minute
)
