package main

import (
	"context"
	"errors"
	"time"

	"github.com/migrate-hpc/migrate/agent/api"
)

// The time between two attempts to reach an agent.
const (
	minBackoff = 50 * time.Millisecond
	maxBackoff = 2 * time.Second
)

// backoff is a pause that grows with every attempt that fails.
type backoff struct{ min, max, next time.Duration }

func newBackoff() backoff { return backoff{min: minBackoff, max: maxBackoff} }

func (b *backoff) reset() { b.next = 0 }

// reachesMax is true once per outage: when the next pause is the longest.
func (b *backoff) reachesMax() bool { return b.next < b.max && 2*b.next >= b.max }

// wait pauses until the time is over or wake is closed.
func (b *backoff) wait(ctx context.Context, wake <-chan struct{}) error {
	b.next = min(max(2*b.next, b.min), b.max)
	t := time.NewTimer(b.next)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-wake:
	case <-t.C:
	}
	return nil
}

// retryable tells whether the same request may succeed later: the agent cannot be reached,
// or is busy.
func retryable(err error) bool {
	var e *api.Error
	return errors.As(err, &e) && (e.Code == api.CodeUnreachable || e.Code == api.CodeBusy)
}
