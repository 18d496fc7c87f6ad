package source

import (
	"context"
	"errors"

	"github.com/migrate-hpc/migrate/handoff"
)

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
