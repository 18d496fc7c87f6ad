package pages

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/migrate-hpc/migrate/checkpoint/image"
)

// maxFrame is the most that a frame of the transport carries, in bytes.
const maxFrame = 1 << 20

// Sink takes the frames of one stream. A frame holds one or more runs (image.EachRun),
// 1 MiB at most, and may be used until WriteFrame returns. One worker calls it.
type Sink interface{ WriteFrame(p []byte) error }

// Stats counts what Send has done.
type Stats struct {
	Pages     int64 // pages read
	ZeroPages int64 // of these, sent as a header only
	Bytes     int64 // memory read, in bytes
	FrameSize int64 // all frames together, in bytes
	Frames    int64
}

func (s *Stats) add(o Stats) {
	s.Pages += o.Pages
	s.ZeroPages += o.ZeroPages
	s.Bytes += o.Bytes
	s.FrameSize += o.FrameSize
	s.Frames += o.Frames
}

// ReadError says which page of the job could not be read.
type ReadError struct {
	VPID image.VPID
	PID  int    // the process here
	Addr uint64 // of the first page that is missing
	Err  error
}

func (e *ReadError) Error() string {
	return fmt.Sprintf("read memory of process %d (pid %d here) at %#x: %v", e.VPID, e.PID, e.Addr, e.Err)
}

func (e *ReadError) Unwrap() error { return e.Err }

// Send reads the lazy regions of every process and writes each of their pages to one of
// the sinks, in no particular order. tasks gives the pid in the caller's pid namespace
// of each process that has lazy regions; they must be frozen. progress, if not nil, is
// told after each frame how many more bytes of memory are done, from several goroutines.
//
// The first error, or the end of ctx, stops all workers; Send returns when they have.
// A worker in WriteFrame is not interrupted: who cancels ctx also closes what the sinks
// write to. A page that cannot be read is a [*ReadError].
func Send(ctx context.Context, tasks map[image.VPID]int, regions map[image.VPID][]image.Region,
	sinks []Sink, progress func(bytes int64)) (Stats, error) {
	if len(sinks) == 0 {
		return Stats{}, errors.New("send pages: no stream to send them on")
	}
	q, err := newQueue(tasks, regions)
	if err != nil {
		return Stats{}, fmt.Errorf("send pages: %w", err)
	}
	if progress == nil {
		progress = func(int64) {}
	}
	stats, err := runWorkers(ctx, q, sinks, progress)
	if err != nil {
		return stats, fmt.Errorf("send pages: %w", err)
	}
	return stats, nil
}

func runWorkers(ctx context.Context, q *queue, sinks []Sink, progress func(int64)) (Stats, error) {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	each := make([]Stats, len(sinks))
	var done sync.WaitGroup
	for i, sink := range sinks {
		done.Go(func() {
			if err := work(ctx, q, sink, progress, &each[i]); err != nil {
				stop(err)
			}
		})
	}
	done.Wait()
	var all Stats
	for _, s := range each {
		all.add(s)
	}
	return all, context.Cause(ctx)
}

func work(ctx context.Context, q *queue, sink Sink, progress func(int64), total *Stats) error {
	b := newBuilder()
	var pieces []piece
	for ctx.Err() == nil {
		if pieces = q.next(pieces[:0]); len(pieces) == 0 {
			return nil
		}
		frame, stats, err := b.build(pieces)
		if err != nil {
			return err
		}
		if err := sink.WriteFrame(frame); err != nil {
			return fmt.Errorf("write %d pages: %w", stats.Pages, err)
		}
		total.add(stats)
		progress(stats.Bytes)
	}
	return nil
}

// piece is some consecutive pages of one process.
type piece struct {
	vpid  image.VPID
	pid   int
	addr  uint64
	pages int64
}

func (p piece) size() int64 { return p.pages * image.PageSize }

// byPlace sorts pieces by process, then address.
func byPlace(a, b piece) int {
	return cmp.Or(cmp.Compare(a.vpid, b.vpid), cmp.Compare(a.addr, b.addr))
}
