package handoff

import (
	"context"
	"errors"
	"fmt"
)

// Engine performs the rules of step.go on one node, for all of its moves. Its fields are what the
// moves share, and all of them are set.
type Engine struct {
	Journal *Journal
	Fence   *Fence
	Boot    string       // the running boot of this node
	Observe func(Record) // called with each record of a move once it is on the disk
}

// RunSource moves a job away. rec names the move, its kind, the job, the peer, an epoch that was
// never used, and the running boot; the job runs, the target has been told to begin, and warm-up is
// over.
//
// Until the committed record, any error and the end of ctx abort the move: the job runs here again,
// the outcome is OutcomeAborted and the error wraps ErrAborted and the cause. After it, the peer is
// told to commit until it says that the job runs, at least once even if ctx has ended; if ctx ends
// first, the outcome is OutcomeInDoubt. After that and after OutcomeUnclean the agent calls
// RecoverSource, now or later, until the move is finished. An aborted epoch is used up.
func (e Engine) RunSource(ctx context.Context, rec Record, s Source, p Peer) (Outcome, error) {
	rec.Role, rec.State = RoleSource, StateNew
	return e.runSource(ctx, e.newSourceRun(rec, s, p), EventStart, always)
}

// RecoverSource goes on with an unfinished move of a source. It ends when the move is finished, or
// with OutcomeInDoubt when ctx ends or something fails that must be tried again later.
func (e Engine) RecoverSource(ctx context.Context, rec Record, s Source, p Peer) (Outcome, error) {
	return e.runSource(ctx, e.newSourceRun(rec, s, p), e.startEvent(rec), always)
}

func (e Engine) startEvent(rec Record) Event {
	if rec.BootID == e.Boot {
		return EventRestart
	}
	return EventReboot
}

// Decision is an operator's word about a move on this node.
type Decision struct {
	Take bool // the copy here is the job; otherwise it is not
	// Apart is asked, once no engine works on the move, whether the target really cannot be reached:
	// its error refuses the decision.
	CheckUnreachable func(context.Context) error
}

// ResolveSource carries out an operator's decision about an unfinished move whose target is gone for
// good: take thaws the job here (OutcomeAborted), otherwise its frozen copy is released
// (OutcomeMoved). The operator vouches that the target does not run the job and has not (take), or
// that it does or that the job shall end (not take). An engine that still works on the move is ended
// first; from then on the target is not told of a commit any more. After take the record is PeerToTell
// until Journal.Told.
func (e Engine) ResolveSource(ctx context.Context, m MoveID, s Source, p Peer, d Decision) (Outcome, error) {
	rec, err := e.Journal.Get(m)
	if err != nil {
		return OutcomeRefused, err
	}
	if d.Take && rec.BootID != e.Boot {
		return OutcomeRefused, fmt.Errorf("move %s: this node went down since, and the frozen job with it: there is nothing to take here", m)
	}
	event := EventDrop
	if d.Take {
		event = EventTake
	}
	for {
		if err := e.Journal.interrupt(ctx, m); err != nil {
			return OutcomeRefused, err
		}
		outcome, err := e.runSource(ctx, e.newSourceRun(rec, s, p), event, d.CheckUnreachable)
		if !errors.Is(err, ErrRunning) { // another engine was quicker
			return outcome, err
		}
	}
}

// YieldSource carries out the word of a target whose operator took the job there: whatever this node
// has of it ends, however the move ended here. It fails with ErrTaken if an operator took the job here,
// too.
func (e Engine) YieldSource(ctx context.Context, m MoveID, s Source, p Peer) (Outcome, error) {
	rec, err := e.Journal.Get(m)
	if err == nil && rec.Taken {
		err = fmt.Errorf("move %s: %w", m, ErrTaken)
	}
	if err == nil {
		err = e.Journal.interrupt(ctx, m)
	}
	if err != nil {
		return OutcomeRefused, err
	}
	return e.runSource(ctx, e.newSourceRun(rec, s, p), EventYield, always)
}

func always(context.Context) error { return nil }

// runSource takes r from its first event to the end of the move, unless may, asked once this
// engine alone works on it, says no.
func (e Engine) runSource(ctx context.Context, r *sourceRun, first Event, may func(context.Context) error) (Outcome, error) {
	ctx, release, err := e.Journal.claim(ctx, r.rec.Move, first == EventTake)
	if err != nil {
		return OutcomeRefused, err
	}
	defer release()
	if err = may(ctx); err == nil {
		r.rec, err = e.current(r.rec, first)
	}
	if err != nil {
		return OutcomeRefused, err
	}
	rec := r.rec
	r.rebooted = first == EventReboot
	outcome, err := r.drive(ctx, first)
	if outcome == OutcomeMoved {
		return outcome, nil
	}
	if kind := outcomeErrors[outcome]; kind != nil {
		err = errors.Join(kind, err)
	}
	return outcome, fmt.Errorf("move %s of job %s to %s: %w", rec.Move, rec.Job, rec.Peer, err)
}

// current is the record to begin with, read when no other engine works on the move any more.
func (e Engine) current(rec Record, first Event) (Record, error) {
	known, err := e.Journal.Get(rec.Move)
	switch {
	case first != EventStart:
		if first == EventTake || first == EventDrop {
			known.note(errOperatorDecides)
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

// NewTarget is the half of a move that has no record yet. rec names the move, its kind, the job, the
// peer, the epoch and the running boot.
func (e Engine) NewTarget(rec Record, t Target) *TargetHalf {
	rec.Role, rec.State = RoleTarget, StateNew
	return e.newTarget(rec, t)
}

// OpenTarget is the half of a move that the journal has a record of. The caller goes on with Recover
// or Resolve.
func (e Engine) OpenTarget(rec Record, t Target) *TargetHalf {
	h := e.newTarget(rec, t)
	h.rebooted = rec.BootID != e.Boot
	return h
}

func (e Engine) newTarget(rec Record, t Target) *TargetHalf {
	h := &TargetHalf{engine: e, target: t, rec: rec, token: make(chan struct{}, 1), finished: make(chan struct{})}
	h.token <- struct{}{}
	if rec.State.Finished() {
		close(h.finished)
	}
	return h
}
