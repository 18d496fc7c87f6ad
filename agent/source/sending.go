package source

import (
	"context"
	"errors"

	"github.com/migrate-hpc/migrate/handoff"
)

// sending is the job on its way to the target after the dump. It goes on while the
// target restores already.
type sending struct {
	cancel context.CancelCauseFunc
	done   chan struct{}
	err    error // once done is closed
}

// send sends everything. To another node it returns as soon as the target can restore
// the job, and the rest of its memory follows; a directory must be complete.
func (d *Job) send(ctx context.Context) error {
	parkable := make(chan struct{})
	d.Src.OnImagesSent = func() { close(parkable) }
	ctx, cancel := context.WithCancelCause(ctx)
	s := &sending{cancel: cancel, done: make(chan struct{})}
	d.Sending = s
	go func() {
		defer close(s.done)
		s.err = d.sendAll(ctx)
	}()
	if d.Kind != handoff.KindMove {
		return s.wait(ctx)
	}
	select {
	case <-parkable:
		return nil
	case <-s.done:
		return s.err
	}
}

func (d *Job) sendAll(ctx context.Context) error {
	release := context.AfterFunc(ctx, d.HangUp) // as in Transfer
	defer release()
	_, err := d.Src.Send(ctx, d.Out)
	if err != nil && ctx.Err() == nil {
		return errors.Join(d.Why(ctx), err)
	}
	return err
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

// giveUp has it end as soon as what it writes to allows.
func (s *sending) giveUp() {
	if s != nil {
		s.cancel(errors.New("nobody waits for the job's memory any more"))
	}
}

// end ends it, if it has not ended.
func (s *sending) end() {
	if s != nil {
		s.giveUp()
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
