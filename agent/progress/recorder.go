package progress

import (
	"sync"

	"github.com/migrate-hpc/migrate/agent/api"
)

// Recorder writes the record of one move at some of its phases, so that it outlives the agent.
type Recorder struct {
	Store    *Records
	Initial  api.MoveRecord
	Describe func(*api.MoveRecord) // fills in what only the move knows

	mu     sync.Mutex // held while writing
	newest *api.MoveRecord
	work   sync.WaitGroup
}

// savesAt tells whether the begin of a phase writes the record: when the target has agreed, when all
// rounds are over, and when the job runs there. Never between prepare and resume: in the downtime
// the disk is for the journal.
func (k *Recorder) savesAt(p api.Phase) bool {
	return p == api.PhaseWarmup || p == api.PhaseDump || p == api.PhaseResume
}

// saveAsync writes the record in the background.
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

// end writes the final record.
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
