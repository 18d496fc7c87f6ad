package source

import (
	"context"
	"errors"
)

// sending is the job on its way to the target after the dump. It goes on while the
// target restores already.
type sending struct {
	cancel context.CancelCauseFunc
	done   chan struct{}
	err    error // once done is closed
}

// wait returns how it ended, nil if nothing was ever begun.
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

// stop has it end as soon as what it writes to allows.
func (s *sending) stop() {
	if s != nil {
		s.cancel(errors.New("nobody waits for the job's memory any more"))
	}
}

// end ends it, if it has not ended.
func (s *sending) end() {
	if s != nil {
		s.stop()
		<-s.done
	}
}

// Failed is why it ended too early, once Ended is closed.
func (s *sending) Failed() error { return s.err }

// Ended is closed when nothing more is sent; nil if nothing was ever begun.
func (s *sending) Ended() <-chan struct{} {
	if s == nil {
		return nil
	}
	return s.done
}
