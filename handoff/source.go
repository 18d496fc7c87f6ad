package handoff

import (
	"context"
	"errors"
	"fmt"
)

// RunSource moves a job away. rec names the move, the job, the peer, an epoch that was never used,
// and the running boot; the job runs, the target has been told to begin, and warm-up is over.
// observe, which may be nil, is told each state once it is on the disk.
//
// Until the committed record, any error and the end of ctx abort the move: the job runs here again,
// the outcome is OutcomeAborted and the error wraps ErrAborted and the cause. After it, the peer is
// told to commit until it says that the job runs, at least once even if ctx has ended; if ctx ends
// first, the outcome is OutcomeInDoubt. After that and after OutcomeUnclean the agent calls
// RecoverSource, now or later, until the move is finished. An aborted epoch is used up.
func RunSource(ctx context.Context, j *Journal, rec Record, s Source, p Peer, observe func(State)) (Outcome, error) {
	rec.Role, rec.State = RoleSource, StateNew
	return runSource(ctx, j, rec, s, p, observe, EventStart)
}

// RecoverSource goes on with an unfinished move of a source; boot is the running boot. It ends when
// the move is finished, or with OutcomeInDoubt when ctx ends or something fails that must be tried
// again later.
func RecoverSource(ctx context.Context, j *Journal, rec Record, boot string, s Source, p Peer, observe func(State)) (Outcome, error) {
	return runSource(ctx, j, rec, s, p, observe, startEvent(rec, boot))
}

func startEvent(rec Record, boot string) Event {
	if rec.BootID == boot {
		return EventRestart
	}
	return EventReboot
}

// ResolveSource carries out an operator's decision about an unfinished move whose target is gone for
// good: take thaws the job here (OutcomeAborted), otherwise its frozen copy is released
// (OutcomeMoved). The operator vouches that the target does not run the job and has not (take), or
// that it does or that the job shall end (not take). An engine that still works on the move is ended
// first; from then on the target is not told of a commit any more, and apart, which may be nil, is
// asked whether the target really cannot be reached: its error refuses the decision. After take the
// record has PeerToTell until Journal.Told.
func ResolveSource(ctx context.Context, j *Journal, m MoveID, boot string, s Source, p Peer, take bool, apart func(context.Context) error, observe func(State)) (Outcome, error) {
	rec, err := j.Get(m)
	if err != nil {
		return OutcomeRefused, err
	}
	if take && rec.BootID != boot {
		return OutcomeRefused, fmt.Errorf("move %s: this node went down since, and the frozen job with it: there is nothing to take here", m)
	}
	event := EventDrop
	if take {
		event = EventTake
	}
	for {
		if err := j.interrupt(ctx, m); err != nil {
			return OutcomeRefused, err
		}
		outcome, err := runSourceIf(ctx, j, rec, s, p, observe, event, apart)
		if !errors.Is(err, ErrRunning) { // another engine was quicker
			return outcome, err
		}
	}
}

// YieldSource carries out the word of a target whose operator took the job there: whatever this node
// has of it ends, however the move ended here. It fails with ErrTaken if an operator took the job here,
// too.
func YieldSource(ctx context.Context, j *Journal, m MoveID, s Source, p Peer, observe func(State)) (Outcome, error) {
	rec, err := j.Get(m)
	if err == nil && rec.Taken {
		err = fmt.Errorf("move %s: %w", m, ErrTaken)
	}
	if err == nil {
		err = j.interrupt(ctx, m)
	}
	if err != nil {
		return OutcomeRefused, err
	}
	return runSource(ctx, j, rec, s, p, observe, EventYield)
}

func runSource(ctx context.Context, j *Journal, rec Record, s Source, p Peer, observe func(State), first Event) (Outcome, error) {
	return runSourceIf(ctx, j, rec, s, p, observe, first, nil)
}

func runSourceIf(ctx context.Context, j *Journal, rec Record, s Source, p Peer, observe func(State), first Event, apart func(context.Context) error) (Outcome, error) {
	ctx, release, err := j.claim(ctx, rec.Move, first == EventTake)
	if err != nil {
		return OutcomeRefused, err
	}
	defer release()
	if apart != nil {
		err = apart(ctx)
	}
	if err == nil {
		rec, err = current(j, rec, first)
	}
	if err != nil {
		return OutcomeRefused, err
	}
	r := &sourceRun{j: j, rec: rec, source: s, peer: p, observe: observe, rebooted: first == EventReboot}
	outcome, err := r.drive(ctx, first)
	if outcome == OutcomeMoved {
		return outcome, nil
	}
	if kind := outcomeErrors[outcome]; kind != nil {
		err = errors.Join(kind, err)
	}
	return outcome, fmt.Errorf("move %s of job %s to %s: %w", rec.Move, rec.Job, rec.Peer, err)
}

// current is the record to begin with, read when nobody else works on the move any more.
func current(j *Journal, rec Record, first Event) (Record, error) {
	known, err := j.Get(rec.Move)
	switch {
	case first != EventStart:
		if first == EventTake || first == EventDrop {
			known.note(errResolved)
			known.Taken, known.PeerToTell = first == EventTake, first == EventTake
		}
		return known, err
	case err == nil:
		return rec, fmt.Errorf("move %s has begun already: each attempt needs an id of its own", rec.Move)
	case errors.Is(err, ErrUnknownMove):
		return rec, nil
	}
	return rec, err
}

// sourceRun performs the rules of the source, from one event to the end of the move.
type sourceRun struct {
	j          *Journal
	rec        Record
	source     Source
	peer       Peer
	observe    func(State)
	rebooted   bool  // the frozen job is gone with an earlier boot
	passedOver bool  // an operator has decided against the copy here
	unsure     bool  // a committed record may be on the disk
	cause      error // what went wrong on the way
}

// stop ends a run before the move is finished.
type stop struct {
	outcome Outcome
	err     error
}

func (s *stop) Error() string { return s.err.Error() }

func (r *sourceRun) drive(ctx context.Context, event Event) (Outcome, error) {
	for event != "" {
		next, actions, err := Step(RoleSource, r.rec.State, event)
		if err != nil {
			return OutcomeRefused, err
		}
		if event, err = r.perform(ctx, next, actions); err != nil {
			var s *stop
			if errors.As(err, &s) {
				return s.outcome, errors.Join(s.err, r.cause)
			}
			return OutcomeInDoubt, errors.Join(err, r.cause)
		}
	}
	return r.finished()
}

func (r *sourceRun) finished() (Outcome, error) {
	switch {
	case r.rec.State == StateReleased:
		return OutcomeMoved, nil
	case r.rebooted:
		return OutcomeLost, r.cause
	}
	return OutcomeAborted, r.cause
}

// perform does the actions of one rule and returns the event that they lead to, "" for none.
func (r *sourceRun) perform(ctx context.Context, next State, actions []Action) (Event, error) {
	var event Event
	for _, a := range actions {
		var err error
		event, err = r.do(ctx, a, next)
		if err != nil || event == EventFail {
			return event, err
		}
	}
	return event, nil
}

func (r *sourceRun) do(ctx context.Context, a Action, next State) (Event, error) {
	switch a {
	case ActionJournal:
		return r.journal(ctx, next)
	case ActionFreeze:
		return r.attempt(ctx, a, r.source.Freeze)
	case ActionTransfer:
		return r.attempt(ctx, a, r.source.Transfer)
	case ActionCheckFrozen:
		if next == StateAborting { // an operator takes the job: if it is there
			return "", r.present(ctx)
		}
		return r.attempt(ctx, a, r.source.StillFrozen)
	case ActionAskPrepare:
		if event, err := r.attempt(ctx, a, r.peer.Prepare); event != "" || err != nil {
			return event, err
		}
		return EventPeerPrepared, nil
	case ActionSendCommit:
		return r.deliver(ctx)
	case ActionAskOutcome:
		return r.ask(ctx)
	case ActionThaw:
		return r.thaw(ctx)
	case ActionAskDrop:
		return r.askDrop(ctx)
	case ActionSendAbort:
		r.sendAbort(ctx)
		return "", nil
	case ActionRelease:
		return r.release(ctx)
	}
	return "", fmt.Errorf("the source has no action %q", a)
}

// attempt does what may fail before the commit point. A move that was cancelled fails, even if the
// step itself succeeded.
func (r *sourceRun) attempt(ctx context.Context, a Action, f func(context.Context) error) (Event, error) {
	err := context.Cause(ctx)
	if err == nil {
		err = f(ctx)
	}
	if err == nil {
		err = context.Cause(ctx)
	}
	if err == nil {
		return "", nil
	}
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
		err = errors.Join(cause, err)
	}
	r.blame(fmt.Errorf("%s: %w", a, err))
	return EventFail, nil
}

func (r *sourceRun) blame(err error) {
	r.cause = errors.Join(r.cause, err)
	r.rec.note(err)
}
