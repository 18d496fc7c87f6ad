package checkpoint

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/migrate-hpc/migrate/checkpoint/scan"
)

// background is a round over the frozen job, while CRIU dumps.
type background struct {
	cancel context.CancelCauseFunc
	done   chan struct{}
	round  scan.Round
	err    error
}

// inBackground begins a round. The job must stay frozen until it has ended. An error of it is told to
// failed, and to who awaits it.
func inBackground(ctx context.Context, do func(context.Context) (scan.Round, error), failed func(error)) *background {
	ctx, cancel := context.WithCancelCause(ctx)
	b := &background{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(b.done)
		if b.round, b.err = do(ctx); b.err != nil {
			failed(b.err)
		}
	}()
	return b
}

// await waits for the end of the round. A nil one was not begun.
func (b *background) await(ctx context.Context) (scan.Round, error) {
	if b == nil {
		return scan.Round{}, nil
	}
	select {
	case <-b.done:
		return b.round, b.err
	case <-ctx.Done():
		return scan.Round{}, context.Cause(ctx)
	}
}

// abort stops the round, if one was begun, and does not wait for its end.
func (b *background) abort() {
	if b != nil {
		b.cancel(errScanAborted)
	}
}

// wait waits for the end of a round that was aborted.
func (b *background) wait() {
	if b != nil {
		<-b.done
	}
}

var errScanAborted = errors.New("the look at the frozen job was given up")

// cutLane makes a lane fail, also a write that is blocked in it.
func cutLane(lane io.Writer) {
	if conn, ok := lane.(interface{ SetWriteDeadline(time.Time) error }); ok {
		_ = conn.SetWriteDeadline(time.Now()) // an error means that it is closed
	}
}
