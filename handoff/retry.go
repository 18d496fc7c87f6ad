package handoff

import (
	"context"
	"errors"
	"time"
)

// Times of the engine.
const (
	callTimeout    = 10 * time.Second // one question or command to the peer
	cleanupTimeout = 30 * time.Second // one try of Thaw, Release or Drop
	cleanupTries   = 3
	firstPause     = 50 * time.Millisecond
	longestPause   = 5 * time.Second
)

// backoff makes pauses that double from firstPause to longestPause.
type backoff struct{ next time.Duration }

// wait returns false when ctx ended or stop was closed before the pause was over.
func (b *backoff) wait(ctx context.Context, stop <-chan struct{}) bool {
	b.next = min(max(2*b.next, firstPause), longestPause)
	pause := time.NewTimer(b.next)
	defer pause.Stop()
	select {
	case <-pause.C:
		return true
	case <-ctx.Done():
	case <-stop:
	}
	return false
}

// within gives f a time limit of its own.
func within(ctx context.Context, limit time.Duration, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return f(ctx)
}

// retryCleanup tries an idempotent clean-up cleanupTries times. Cancelling the move does not cancel it.
func retryCleanup(ctx context.Context, f func(context.Context) error) error {
	ctx = context.WithoutCancel(ctx)
	var errs []error
	var pause backoff
	for range cleanupTries {
		err := within(ctx, cleanupTimeout, f)
		if err == nil {
			return nil
		}
		errs = append(errs, err)
		pause.wait(ctx, nil)
	}
	return errors.Join(errs...)
}
