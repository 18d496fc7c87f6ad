package handoff

import (
	"context"
	"errors"
	"fmt"
)

// askUntilDecided brings the move to its end without a connection to the source, by asking it. A committed copy
// asks, too, before it is resumed once more: since its record was written the source's operator may have
// taken the job back. Other methods may come in between.
func (h *TargetHalf) askUntilDecided(ctx context.Context, source Asker) error {
	var pause backoff
	for {
		err := h.advance(ctx, source)
		if h.State().Finished() || h.State() == StateReceiving {
			return err
		}
		if pause.wait(ctx, h.finished) || ctx.Err() == nil {
			continue
		}
		return errors.Join(ErrInDoubt, fmt.Errorf("move %s: the copy of job %s stays as it is: %w", h.rec.Move, h.rec.Job,
			errors.Join(context.Cause(ctx), err)))
	}
}

// advance does what can be done now. An error says why that was not all.
func (h *TargetHalf) advance(ctx context.Context, source Asker) error {
	var event Event
	switch h.State() {
	case StateCommitted, StatePrepared:
		var err error
		if event, err = h.askOutcome(ctx, source); err != nil {
			return err
		}
	}
	if event == "" {
		return nil
	}
	err := h.handle(ctx, event)
	if errors.Is(err, ErrDropped) || errors.Is(err, ErrCommitted) {
		return nil // that is how the question was settled
	}
	return err
}

// askOutcome finds out what to do about a copy.
func (h *TargetHalf) askOutcome(ctx context.Context, source Asker) (Event, error) {
	if err := h.dropIfGone(ctx); err != nil || h.State().Finished() {
		return "", err
	}
	var state State
	err := within(ctx, callTimeout, func(ctx context.Context) (err error) {
		state, err = source.Outcome(ctx)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("ask %s for the outcome: %w", h.rec.Peer, err)
	}
	committed := h.State() == StateCommitted
	switch state {
	case StateTaken:
		return EventYield, nil
	case StateReleased:
		if h.InDoubt() {
			h.addNote(fmt.Errorf("this node went down with the copy, and an operator gave the one on %s up", h.rec.Peer))
			return EventLost, nil
		}
		return EventCommit, nil
	case StateCommitted:
		if h.InDoubt() {
			return "", h.inDoubtError()
		}
		return EventCommit, nil
	case StateAborting, StateAborted:
		if !committed {
			return EventAbort, nil
		}
		if h.Record().Taken && !h.rebooted {
			return EventCommit, nil // an operator's decision stands, and the source yields
		}
		return EventYield, nil
	}
	return "", fmt.Errorf("%s has not decided: %.40q", h.rec.Peer, state)
}

// dropIfGone drops a parked copy that is proven to be gone. It holds the lock, so that no commit
// lets the copy run in between.
func (h *TargetHalf) dropIfGone(ctx context.Context) error {
	release, err := h.lock(ctx)
	if err != nil {
		return err
	}
	defer release()
	if h.State() != StatePrepared {
		return nil
	}
	if event, err := h.checkParked(ctx); event == EventGone {
		h.addNote(err)
		return h.follow(ctx, event)
	}
	return nil
}
