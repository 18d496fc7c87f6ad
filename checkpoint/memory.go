package checkpoint

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"sync"

	"github.com/migrate-hpc/migrate/checkpoint/scan"
	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/stream"
)

// memory sends the job's memory over the lanes.
//
// The first lane carries no pages if there are others. CRIU's images, which the target waits for,
// then never queue up behind memory.
type memory struct {
	pages      *scan.Memory
	lanes      []io.Writer // of pages
	shared     bool        // with images
	streams    []*stream.Writer
	wire       int64       // written by streams that have ended
	begun      bool        // a round has been sent
	preferSize bool        // the next pass spares the wire
	frozen     *background // the scan of the frozen memory, while CRIU dumps; nil: not begun
}

// memoryOn returns the job's memory. All calls for a move name the same lanes.
func (s *Source) memoryOn(lanes []io.Writer) (*memory, error) {
	if s.memory != nil {
		p := s.memory.pages
		if p.PostCopy != s.PostCopy || p.FullSpeed != s.FullSpeed { // else a pass may be under way, and reads them
			p.PostCopy, p.FullSpeed = s.PostCopy, s.FullSpeed
		}
		return s.memory, nil
	}
	if len(lanes) == 0 {
		return nil, errors.New("no lane to send memory on")
	}
	m := &memory{lanes: lanes, shared: true}
	if len(lanes) > 1 {
		m.lanes, m.shared = lanes[1:], false
	}
	var err error
	if m.pages, err = scan.New(len(m.lanes)); err != nil {
		return nil, err
	}
	m.pages.Count, m.pages.PostCopy, m.pages.FullSpeed = s.Count, s.PostCopy, s.FullSpeed
	s.memory = m
	return m, nil
}

// pass runs one pass over memory and counts what it put on the wire.
func (m *memory) pass(do func(sinks []scan.Sink) (scan.Round, error)) (scan.Round, error) {
	m.open(stream.KindPages)
	for _, s := range m.streams {
		s.PreferSize(m.preferSize)
	}
	m.preferSize = false
	before := m.written()
	round, err := do(m.sinks())
	if err == nil && m.shared {
		err = m.end()
	}
	round.Wire = m.written() - before
	return round, err
}

func (m *memory) sinks() []scan.Sink {
	var sinks []scan.Sink
	for _, s := range m.streams {
		sinks = append(sinks, s)
	}
	return sinks
}

// sendDigests sends the digests of all lazy pages, behind the pages on each lane.
func (m *memory) sendDigests(ctx context.Context, tasks []scan.Task, regions map[stream.VPID][]image.Region) error {
	seed := rand.Uint64()
	m.open(stream.KindDigests)
	if err := inParallel(len(m.streams), func(i int) error { return m.streams[i].WriteFrame(stream.DigestHead(seed)) }); err != nil {
		return err
	}
	if _, err := m.pages.Digests(ctx, seed, tasks, regions, m.sinks()); err != nil {
		return err
	}
	return m.end()
}

// open begins the streams, unless they are open.
func (m *memory) open(kind uint16) {
	if m.streams != nil {
		return
	}
	for _, lane := range m.lanes {
		m.streams = append(m.streams, stream.NewWriter(lane, kind))
	}
}

// end ends the streams. A shared lane has one stream for each pass, other lanes one for all.
func (m *memory) end() error {
	err := inParallel(len(m.streams), func(i int) error { return m.streams[i].Close() })
	m.wire = m.written()
	m.streams = nil
	return err
}

func (m *memory) written() int64 {
	n := m.wire
	for _, s := range m.streams {
		n += s.Stats().Wire
	}
	return n
}

// pullsAll says that the target pulls all memory: none was sent.
func (m *memory) pullsAll() bool { return m.pages.PostCopy && !m.begun }

// beginScan starts the scan of the frozen memory. The job must stay frozen until the scan has ended.
func (m *memory) beginScan(ctx context.Context, of *Processes, failed func(error)) error {
	if m.pullsAll() {
		return nil
	}
	tasks, err := of.tasks()
	if err != nil {
		return err
	}
	m.frozen = inBackground(ctx, func(ctx context.Context) (scan.Round, error) {
		return m.pass(func(sinks []scan.Sink) (scan.Round, error) { return m.pages.Scan(ctx, tasks, sinks) })
	}, failed)
	return nil
}

// abort stops the scan and cuts the lanes. It does not wait.
func (m *memory) abort() {
	m.frozen.abort()
	for _, lane := range m.lanes {
		cutLane(lane)
	}
}

// close frees what is known of the memory, when a scan that was aborted has ended.
func (m *memory) close() error {
	m.frozen.wait()
	return m.pages.Close()
}

func inParallel(n int, do func(int) error) error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = do(i) })
	}
	wg.Wait()
	return errors.Join(errs...)
}
