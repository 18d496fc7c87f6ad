package handoff

import (
	"context"
	"errors"
	"fmt"
)

func (h *TargetHalf) do(ctx context.Context, a Action, next State) (Event, error) {
	switch a {
	case ActionAdmit:
		return "", h.fence.Admit(h.rec.Job, h.rec.Epoch)
	case ActionJournal:
		return "", h.journal(next)
	case ActionPark:
		return h.park(ctx)
	case ActionCheckParked:
		return gone(h.target.StillParked(ctx))
	case ActionResume:
		if event, err := gone(h.target.Resume(ctx)); err != nil {
			return event, err
		}
		return EventResumed, nil
	case ActionDrop:
		return "", insist(ctx, h.target.Drop)
	case ActionAskOutcome: // by ask, between the events, so that a commit or an abort can come in
		return "", nil
	}
	return "", fmt.Errorf("the target has no action %q", a)
}

// gone turns the proof that the copy is gone into the event, and into the answer for the source.
func gone(err error) (Event, error) {
	if errors.Is(err, ErrGone) {
		return EventGone, fmt.Errorf("%w: %w", ErrDropped, err)
	}
	return "", err
}

// park restores the copy. Whatever goes wrong, the copy is dropped.
func (h *TargetHalf) park(ctx context.Context) (Event, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	h.setPreempt(cancel)
	defer h.setPreempt(nil)
	err := h.target.Prepare(ctx)
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
		err = errors.Join(cause, err)
	}
	if err == nil {
		return "", nil
	}
	h.mu.Lock()
	h.rec.note(err)
	h.mu.Unlock()
	return EventGone, err
}

func (h *TargetHalf) setPreempt(cancel context.CancelCauseFunc) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.preempt = cancel
}

// preemptPrepare ends a Prepare that runs, so that the event after it need not wait for it.
func (h *TargetHalf) preemptPrepare(event Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.preempt != nil {
		h.preempt(fmt.Errorf("ended by %q", event))
	}
}

func (h *TargetHalf) journal(next State) error {
	rec := h.Record()
	rec.State = next
	if err := h.j.Append(rec); err != nil {
		return err
	}
	h.become(next)
	if h.observe != nil {
		h.observe(next)
	}
	return nil
}

func (h *TargetHalf) become(next State) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if undecided(h.rec.State) && !undecided(next) {
		close(h.settled)
	}
	h.rec.State = next
}

// ask asks the source while the copy is parked, and carries out the answer. It also notices a parked
// copy that has died.
func (h *TargetHalf) ask(ctx context.Context, source Asker) error {
	var pause backoff
	for h.State() == StatePrepared {
		event, err := h.question(ctx, source)
		if event != "" {
			err = h.handle(ctx, event)
		}
		if h.State() != StatePrepared {
			return settledBy(err)
		}
		if !pause.wait(ctx, h.settled) && ctx.Err() != nil {
			return errors.Join(ErrInDoubt, fmt.Errorf("move %s: the copy of job %s stays parked: %w", h.rec.Move, h.rec.Job,
				errors.Join(context.Cause(ctx), err)))
		}
	}
	return nil
}

// settledBy drops the error that only says how the question was settled.
func settledBy(err error) error {
	if errors.Is(err, ErrGone) || errors.Is(err, ErrCommitted) || errors.Is(err, ErrDropped) {
		return nil
	}
	return err
}

// question finds out what to do about a parked copy, "" if nobody knows yet.
func (h *TargetHalf) question(ctx context.Context, source Asker) (Event, error) {
	if err := h.target.StillParked(ctx); errors.Is(err, ErrGone) {
		return EventGone, nil
	}
	var state State
	err := within(ctx, callTimeout, func(ctx context.Context) (err error) {
		state, err = source.Outcome(ctx)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("ask %s for the outcome: %w", h.rec.Peer, err)
	}
	switch state {
	case StateCommitted, StateReleased:
		return EventCommit, nil
	case StateAborting, StateAborted:
		return EventAbort, nil
	}
	return "", fmt.Errorf("%s has not decided: %.40q", h.rec.Peer, state)
}
