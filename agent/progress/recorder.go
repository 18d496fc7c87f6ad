package progress

import (
	"sync"

	"github.com/migrate-hpc/migrate/agent/api"
)

// Recorder keeps the record of one move as it gets on, so that what is known of it
// outlives the agent.
type Recorder struct {
	Store    *Records
	Initial  api.MoveRecord
	Describe func(*api.MoveRecord) // fills in what only the movement knows

	mu     sync.Mutex // held while writing
	newest *api.MoveRecord
	work   sync.WaitGroup
}

// savesAt are the phases at whose begin the record is written: when the target has
// agreed, when all rounds are over, and when the job runs there. Never between
// prepare and resume: the disk is the journal's then, and the job stands still.
func (k *Recorder) savesAt(p api.Phase) bool {
	return p == api.PhaseWarmup || p == api.PhaseDump || p == api.PhaseResume
}

// saveAsync writes the record while the move goes on.
func (k *Recorder) saveAsync(r api.MoveRecord) {
	k.mu.Lock()
	k.newest = &r
	k.mu.Unlock()
	k.work.Go(func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.Store.save(*k.newest)
	})
}

// end writes the record for good.
func (k *Recorder) end(r api.MoveRecord, res *api.Result, err *api.Error) {
	k.work.Wait()
	r.State, r.Error = endState(err), err
	if res != nil { // what the user is told, to the digit
		r.Downtime, r.Took, r.Mode, r.CleanupLeft = res.Downtime, res.Took, res.Mode, res.CleanupLeft
	}
	k.Store.save(r)
}

func endState(err *api.Error) api.MoveState {
	if err == nil {
		return api.MoveDone
	}
	switch err.Code {
	case api.CodeRefused, api.CodeSuspended:
		return api.MoveRefused
	case api.CodeAborted:
		return api.MoveAborted
	case api.CodeCancelled:
		return api.MoveCancelled
	case api.CodeInDoubt:
		return api.MoveWaiting
	}
	return api.MoveFailed
}
