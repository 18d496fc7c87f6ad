package checkpoint

import (
	"bufio"
	"context"
	"io"
	"testing"

	"github.com/migrate-hpc/migrate/checkpoint/scan"
	"github.com/migrate-hpc/migrate/testenv"
)

// stalled is a file on a server that does not answer. A write does not return before the server is
// back.
type stalled struct{ began, back chan struct{} }

func (f *stalled) Write([]byte) (int, error) {
	close(f.began)
	<-f.back
	return 0, io.ErrClosedPipe
}

func TestAJobIsThawedWhileAFileServerTakesNothing(t *testing.T) {
	s, ctx := frozenScene(t), testenv.Bounded(t)
	server := &stalled{make(chan struct{}), make(chan struct{})}
	lanes := []io.Writer{bufio.NewWriterSize(server, 16)}
	m, err := s.memoryOn(lanes)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Freeze(ctx); err != nil {
		t.Fatal(err)
	}
	looking := make(chan context.Context, 1)
	m.frozen = inBackground(ctx, func(ctx context.Context) (scan.Round, error) {
		looking <- ctx
		return m.pass(func(sinks []scan.Sink) (scan.Round, error) {
			return scan.Round{}, sinks[0].WriteFrame(make([]byte, 1<<16))
		})
	}, func(error) {})
	<-server.began
	thawed := make(chan error, 1)
	go func() { thawed <- s.Thaw(ctx) }()
	select {
	case err := <-thawed:
		if err != nil {
			t.Error(err)
		}
	case <-ctx.Done():
		t.Error("it waits")
	}
	if err := s.StillFrozen(ctx); err == nil {
		t.Error("the job is still frozen")
	}
	if (<-looking).Err() == nil {
		t.Error("the look at it goes on")
	}
	close(server.back)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
