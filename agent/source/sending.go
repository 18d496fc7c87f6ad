package source

import (
	"context"
	"errors"
)

// sending sends the job to the target after the dump, also while the target already restores.
type sending struct {
	cancel context.CancelCauseFunc
	done   chan struct{}
	err    error // once done is closed
}

// wait returns its error, nil if it was never begun.
func (s *sending) wait(ctx context.Context) error {
	if s == nil {
		return nil
	}
	select {
	case <-s.done:
		return s.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// stop makes it end as soon as its writes return.
func (s *sending) stop() {
	if s != nil {
		s.cancel(errors.New("nobody waits for the job's memory any more"))
	}
}

// end stops it and waits for its end.
func (s *sending) end() {
	if s != nil {
		s.stop()
		<-s.done
	}
}

// Failed is its error, nil if all was sent, once Ended is closed.
func (s *sending) Failed() error { return s.err }

// Ended is closed at its end; nil if it was never begun.
func (s *sending) Ended() <-chan struct{} {
	if s == nil {
		return nil
	}
	return s.done
}
