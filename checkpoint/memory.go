package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"

	"github.com/migrate-hpc/migrate/checkpoint/scan"
	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/pidmap"
	"github.com/migrate-hpc/migrate/stream"
)

// memory is the job's memory on its way over the lanes.
//
// The first lane carries no pages if there are others. So CRIU's images, which the
// target waits for, never queue up behind memory.
type memory struct {
	pages      *scan.Memory
	lanes      []io.Writer // of pages
	shared     bool        // with images
	streams    []*stream.Writer
	wire       int64 // written by streams that have ended
	begun      bool  // a round has been sent
	preferSize bool  // the next pass spares the wire
}

// memoryOn returns the job's memory. All calls for a move name the same lanes.
func (s *Source) memoryOn(lanes []io.Writer) (*memory, error) {
	if s.memory != nil {
		s.memory.pages.PostCopy, s.memory.pages.FullSpeed = s.PostCopy, s.FullSpeed
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

// pass has the pages sent by do, and counts what that put on the wire.
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

// open begins the streams, unless they have begun.
func (m *memory) open(kind uint16) {
	if m.streams != nil {
		return
	}
	for _, lane := range m.lanes {
		m.streams = append(m.streams, stream.NewWriter(lane, kind))
	}
}

// end ends the streams. A shared lane has one for each pass, others one for all.
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

// Tracking is how changes of memory are found, "soft-dirty" or "hash"; "" before
// anything was sent.
func (s *Source) Tracking() string {
	if s.memory == nil {
		return ""
	}
	return s.memory.pages.Tracking()
}

// PreCopy is a warm-up round: it sends what is new or has changed in the memory of the
// running job since the round before, private and shared. Whatever the job does
// meanwhile is no error.
func (s *Source) PreCopy(ctx context.Context, lanes []io.Writer) (scan.Round, error) {
	m, err := s.memoryOn(lanes)
	if err != nil {
		return scan.Round{}, err
	}
	tasks, err := s.tasks()
	if err != nil {
		return scan.Round{}, fmt.Errorf("warm-up: %w", err)
	}
	m.preferSize = !m.begun // the first round is nearly everything, and nobody waits for it
	m.begun = true
	round, err := m.pass(func(sinks []scan.Sink) (scan.Round, error) { return m.pages.PreCopy(ctx, tasks, sinks) })
	if err != nil {
		return round, err
	}
	files, err := s.sendPrivate(ctx, lanes[0])
	round.Add(files)
	if err != nil {
		return round, err
	}
	segments, err := s.sendSegments(ctx, lanes[0], tasks)
	round.Add(segments)
	return round, err
}

// tasks lists the processes of the job.
func (s *Source) tasks() ([]scan.Task, error) {
	entries, err := pidmap.InNamespace(s.Init)
	if err != nil {
		return nil, err
	}
	if err := s.checkInit(); err != nil {
		return nil, err
	}
	var tasks []scan.Task
	for _, e := range entries {
		if !e.Zombie() {
			tasks = append(tasks, scan.Task{VPID: stream.VPID(e.Job), PID: e.Host, Began: e.Began})
		}
	}
	return tasks, nil
}

// checkInit fails if the job has ended. Then whoever has the number of its PID 1 may be in
// the node's own namespaces, with all other processes. It is asked after what was looked at
// by the number, and before anything follows from that: who has the number of a PID 1 that is
// gone is in none of the job's cgroups, which are gone, too.
func (s *Source) checkInit() error {
	pids, err := s.Cgroup.Pids()
	if err == nil && !slices.Contains(pids, s.Init) {
		err = fmt.Errorf("process %d, the job's first, is not in the job's cgroup: the job has ended, or somebody has moved it", s.Init)
	}
	return err
}

// frozenScan is a look at the frozen memory that goes on while CRIU dumps.
type frozenScan struct {
	cancel context.CancelCauseFunc
	done   chan struct{}
	round  scan.Round
	err    error
}

// beginScan starts the scan. The job must be frozen until it has ended.
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

// pullsAll says that nothing is to be sent of the memory, and nothing was.
func (s *Source) pullsAll(m *memory) bool { return s.PostCopy && !m.begun }

// Puller reads what the target asks for of the memory of the dumped job, which stands
// still.
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

// abortScans stops the looks at the frozen job, and cuts the lanes: nobody waits for its
// memory any longer. It does not wait until that has shown: a lane that is a file of a
// stalled file server cannot be cut, and the job must not stand still for it.
func (s *Source) abortScans() {
	if s.scan != nil {
		s.scan.cancel(errScanAborted)
	}
	if s.privateScan != nil {
		s.privateScan.cancel(errScanAborted)
		cutLane(s.privateScan.lane)
	}
	if s.memory != nil {
		for _, lane := range s.memory.lanes {
			cutLane(lane)
		}
	}
}

var errScanAborted = errors.New("the look at the frozen job was given up")

// endScans stops them and waits for their end.
func (s *Source) endScans() {
	s.abortScans()
	if s.scan != nil {
		<-s.scan.done
	}
	if s.privateScan != nil {
		<-s.privateScan.done
	}
	s.scan, s.privateScan = nil, nil
}

// Close stops what still goes on and gives back what the source remembers of the job's
// memory. Send must have returned. A second call changes nothing.
func (s *Source) Close() error {
	s.closePrestarted()
	s.endScans()
	err := s.closePrivate()
	if s.memory == nil {
		return err
	}
	err = errors.Join(err, s.memory.pages.Close())
	s.memory = nil
	return err
}
