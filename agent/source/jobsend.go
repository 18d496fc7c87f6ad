package source

import (
	"context"
	"errors"

	"github.com/migrate-hpc/migrate/handoff"
)

// send sends everything. To another node it returns as soon as the target can restore the job; the
// rest of its memory follows. A checkpoint must be complete.
func (j *Job) send(ctx context.Context) error {
	parkable := make(chan struct{})
	j.Src.OnImagesSent = func() { close(parkable) }
	ctx, cancel := context.WithCancelCause(ctx)
	s := &sending{cancel: cancel, done: make(chan struct{})}
	j.Sending = s
	go func() {
		defer close(s.done)
		s.err = j.sendAll(ctx)
	}()
	if j.Kind != handoff.KindMove {
		return s.wait(ctx)
	}
	select {
	case <-parkable:
		return nil
	case <-s.done:
		return s.err
	}
}

func (j *Job) sendAll(ctx context.Context) error {
	release := context.AfterFunc(ctx, j.HangUp) // as in Transfer
	defer release()
	_, err := j.Src.Send(ctx, j.Out)
	if err != nil && ctx.Err() == nil {
		return errors.Join(j.AskWhy(ctx), err)
	}
	return err
}
