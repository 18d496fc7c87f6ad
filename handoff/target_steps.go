package handoff

import (
	"context"
	"errors"
	"fmt"

	"github.com/migrate-hpc/migrate/failpoint"
)

func (h *TargetHalf) do(ctx context.Context, a Action, next State) (Event, error) {
	switch a {
	case ActionAdmit:
		return "", h.engine.Fence.Admit(h.rec.Job, h.rec.Epoch)
	case ActionJournal:
		return "", h.journal(next)
	case ActionPark:
		return h.park(ctx)
	case ActionCheckParked:
		return h.checkParked(ctx)
	case ActionCheckRuns:
		if err := h.target.StillParked(ctx); errors.Is(err, ErrRuns) {
			return EventResumed, nil
		}
		return "", nil // parked, gone or not known: the source is asked
	case ActionResume:
		return h.resume(ctx)
	case ActionDrop:
		return "", retryCleanup(ctx, h.target.Drop)
	case ActionEnd:
		return "", retryCleanup(ctx, h.target.End)
	case ActionAskOutcome: // by settle, between the events, so that a commit or an abort can come in
		return "", nil
	}
	return "", fmt.Errorf("the target has no action %q", a)
}

func (h *TargetHalf) checkParked(ctx context.Context) (Event, error) {
	if h.rebooted {
		return goneEvent(fmt.Errorf("this node went down since: %w", ErrGone))
	}
	return goneEvent(h.target.StillParked(ctx))
}

// resume is past the commit point: the end of ctx does not hold it up.
func (h *TargetHalf) resume(ctx context.Context) (Event, error) {
	if h.rebooted {
		return "", h.inDoubtError()
	}
	if err := within(context.WithoutCancel(ctx), cleanupTimeout, h.target.Resume); err != nil {
		return goneEvent(err)
	}
	return EventResumed, nil
}

// goneEvent turns the proof that the copy is gone into the event, and into the answer for the source.
func goneEvent(err error) (Event, error) {
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
	h.addNote(err)
	return EventGone, err
}

// addNote keeps the reason for the next record.
func (h *TargetHalf) addNote(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.rec.note(err)
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
	if next == StateDropped {
		rec.Taken, rec.PeerToTell = false, false
	}
	failpoint.Point("before", "target", string(next))
	if err := h.engine.Journal.Append(rec); err != nil {
		return err
	}
	failpoint.Point("after", "target", string(next))
	h.become(next)
	h.engine.Observe(rec)
	return nil
}

func (h *TargetHalf) become(next State) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.rec.State.Finished() && next.Finished() {
		close(h.finished)
	}
	h.rec.State = next
}
