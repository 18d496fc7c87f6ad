package checkpoint

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/migrate-hpc/migrate/checkpoint/scan"
	"github.com/migrate-hpc/migrate/criu/image"
)

// beginScan starts the scan. The job must stay frozen until the scan has ended.
func (s *Source) beginScan(ctx context.Context, m *memory, failed func(error)) error {
	if s.pullsAll(m) {
		return nil
	}
	tasks, err := s.tasks()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	sc := &frozenScan{cancel: cancel, done: make(chan struct{})}
	s.scan = sc
	go func() {
		defer close(sc.done)
		sc.round, sc.err = m.pass(func(sinks []scan.Sink) (scan.Round, error) { return m.pages.Scan(ctx, tasks, sinks) })
		if sc.err != nil {
			failed(sc.err)
		}
	}()
	return nil
}

// awaitScan waits for the scan, if one was begun.
func (s *Source) awaitScan(ctx context.Context) (scan.Round, error) {
	if s.scan == nil {
		return scan.Round{}, nil
	}
	select {
	case <-s.scan.done:
		return s.scan.round, s.scan.err
	case <-ctx.Done():
		return scan.Round{}, context.Cause(ctx)
	}
}

// pullsAll says that the target pulls all memory: none was sent.
func (s *Source) pullsAll(m *memory) bool { return s.PostCopy && !m.begun }

// Puller reads the memory that the target asks for, of a dumped job that is still frozen.
func (s *Source) Puller() (*scan.Puller, error) {
	regions, err := image.Pagemaps(s.Images())
	if err != nil {
		return nil, err
	}
	tasks, err := s.tasks()
	if err != nil {
		return nil, err
	}
	return scan.NewPuller(tasks, regions), nil
}

// abortScans stops the scans of the frozen job and cuts the lanes, because the memory is not
// wanted any more. It does not wait for the scans. A lane that is a file of a stalled file server
// cannot be cut, and must not lengthen the downtime.
func (s *Source) abortScans() {
	if s.scan != nil {
		s.scan.cancel(errScanAborted)
	}
	if s.lastRound != nil {
		s.lastRound.cancel(errScanAborted)
		cutLane(s.lastRound.lane)
	}
	if s.memory != nil {
		for _, lane := range s.memory.lanes {
			cutLane(lane)
		}
	}
}

var errScanAborted = errors.New("the look at the frozen job was given up")

// endScans stops the scans and waits for their end.
func (s *Source) endScans() {
	s.abortScans()
	if s.scan != nil {
		<-s.scan.done
	}
	if s.lastRound != nil {
		<-s.lastRound.done
	}
	s.scan, s.lastRound = nil, nil
}

// beginLastRound starts it, unless memory shares the only lane: then Send does it.
func (s *Source) beginLastRound(ctx context.Context, m *memory, lane io.Writer, failed func(error)) {
	if m.shared {
		return
	}
	ctx, cancel := context.WithCancelCause(ctx)
	last := &lastRound{cancel: cancel, lane: lane, done: make(chan struct{})}
	s.lastRound = last
	go func() {
		defer close(last.done)
		if last.round, last.err = s.resources().lastRound(ctx, lane); last.err != nil {
			failed(last.err)
		}
	}()
}

// awaitLastRound waits for it, or does it now.
func (s *Source) awaitLastRound(ctx context.Context, lane io.Writer) (scan.Round, error) {
	if s.lastRound == nil {
		return s.resources().lastRound(ctx, lane)
	}
	select {
	case <-s.lastRound.done:
		return s.lastRound.round, s.lastRound.err
	case <-ctx.Done():
		return scan.Round{}, context.Cause(ctx)
	}
}

// cutLane makes a lane fail, also a write that is blocked in it.
func cutLane(lane io.Writer) {
	if conn, ok := lane.(interface{ SetWriteDeadline(time.Time) error }); ok {
		_ = conn.SetWriteDeadline(time.Now()) // an error means that it is closed
	}
}
