package handoff

import (
	"context"
	"errors"
	"fmt"
)

// sourceRun performs the rules of the source, from one event to the end of the move.
type sourceRun struct {
	engine    Engine
	rec       Record
	source    Source
	peer      Peer
	rebooted  bool  // the frozen job is gone with an earlier boot
	peerTaken bool  // an operator has decided against the copy here
	unsure    bool  // a committed record may be on the disk
	cause     error // what went wrong on the way
}

func (e Engine) newSourceRun(rec Record, s Source, p Peer) *sourceRun {
	return &sourceRun{engine: e, rec: rec, source: s, peer: p}
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
			return "", r.checkFrozen(ctx)
		}
		return r.attempt(ctx, a, r.source.StillFrozen)
	case ActionAskPrepare:
		if event, err := r.attempt(ctx, a, r.peer.Prepare); event != "" || err != nil {
			return event, err
		}
		return EventPeerPrepared, nil
	case ActionSendCommit:
		return r.sendCommit(ctx)
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
	r.addCause(fmt.Errorf("%s: %w", a, err))
	return EventFail, nil
}

func (r *sourceRun) addCause(err error) {
	r.cause = errors.Join(r.cause, err)
	r.rec.note(err)
}
