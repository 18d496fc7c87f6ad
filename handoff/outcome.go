package handoff

import "errors"

// Outcome says how a move ended for its source, which is also where the job is.
type Outcome int

// The outcomes.
const (
	OutcomeMoved   Outcome = iota // the job runs on the target, nothing is left here
	OutcomeUnclean                // the job runs on the target, but the source could not clean up
	OutcomeAborted                // the job runs on the source, as if nothing had been tried
	OutcomeInDoubt                // not known or not carried out yet: every copy stays, the source's frozen
	OutcomeLost                   // the source's node went down with the job, and the target had no copy
	OutcomeRefused                // nothing was done
)

func (o Outcome) String() string {
	names := [...]string{"moved", "moved, clean-up left", "aborted", "in doubt", "lost", "refused"}
	if o < 0 || int(o) >= len(names) {
		return "unknown"
	}
	return names[o]
}

// Errors that go with the outcomes; each also wraps its cause.
var (
	ErrUnclean = errors.New("the job runs on the target; the source could not release its copy, and recovery will")
	ErrAborted = errors.New("the move was aborted; the job runs on the source")
	ErrInDoubt = errors.New("the move is in doubt; no copy of the job is given up, and recovery goes on as soon as both nodes can be reached")
	ErrLost    = errors.New("the source's node went down with the job before the target had all of it")
)

// outcomeErrors has no entry for OutcomeMoved, which is no error, nor for OutcomeRefused, whose
// cause says all.
var outcomeErrors = map[Outcome]error{
	OutcomeUnclean: ErrUnclean,
	OutcomeAborted: ErrAborted,
	OutcomeInDoubt: ErrInDoubt,
	OutcomeLost:    ErrLost,
}
