package handoff

import (
	"context"
)

// link is the source's connection to the target.
type link struct{ c *cluster }

func (l link) call(f func(*TargetHalf) error) error {
	if l.c.src.crashed() {
		return errCrashed
	}
	if l.c.tgt.crashed() {
		l.c.restartTarget()
		return errUnreachable
	}
	l.c.mu.Lock()
	half := l.c.tgt.half
	l.c.mu.Unlock()
	if half == nil { // the agent has started and not yet looked at its journal
		return errUnreachable
	}
	err := f(half)
	if l.c.tgt.crashed() {
		return errUnreachable
	}
	return err
}

func (l link) Prepare(ctx context.Context) error {
	return l.call(func(h *TargetHalf) error { return h.Prepare(ctx) })
}

func (l link) Commit(ctx context.Context) error {
	return l.call(func(h *TargetHalf) error { return h.Commit(ctx) })
}

func (l link) Abort(ctx context.Context) error {
	return l.call(func(h *TargetHalf) error { return h.Abort(ctx) })
}

func (l link) Yield(ctx context.Context) error {
	return l.call(func(h *TargetHalf) error { return h.Yield(ctx) })
}

func (l link) Outcome(ctx context.Context) (state State, err error) {
	err = l.call(func(h *TargetHalf) error { state = h.State(); return nil })
	return state, err
}

// asker is the target's way to the source's journal.
type asker struct{ c *cluster }

func (a asker) Outcome(context.Context) (State, error) {
	a.c.mu.Lock()
	defer a.c.mu.Unlock()
	if a.c.src.crashed() || a.c.tgt.crashed() {
		return "", errUnreachable
	}
	return a.c.src.j.Answer(a.c.move, "b")
}
