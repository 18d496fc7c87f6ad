package uffd

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/restore/pageset"
	"github.com/migrate-hpc/migrate/restore/pagestore"
	"github.com/migrate-hpc/migrate/stream"
)

// errStopped ends what still runs when another part has failed.
var errStopped = errors.New("fault server stops")

// maxReaders bounds the threads that wait for faults.
const maxReaders = 4

// Stats is what a Server did. Sizes are in bytes.
type Stats struct {
	Tasks, Zombies, Forks int64
	Faults, ZeroFaults    int64 // faults served from the store, with the zero page
	Changes               int64 // messages read, faults included
	Filled                int64 // brought to address spaces, by faults or in the background
	Duration              time.Duration
}

// Server is the fault server of one restore. Use: Listen, then start CRIU, then
// Serve, at last Close.
type Server struct {
	listener *net.UnixListener
	socket   string // path of the socket
	done     chan struct{}
	filled   atomic.Int64
	total    atomic.Int64
	absent   atomic.Int64 // of the total, what has not arrived

	// What comes while the server runs; see supply.go. The lock is taken before
	// that of any space: for writing by whoever makes pages available.
	supply       sync.RWMutex
	incomplete   bool
	pushEnded    bool          // what the store has is as of the freeze; also under mu
	opened       chan struct{} // closed when Serve has the store, or has failed
	lazy         map[stream.VPID][]pageset.Range
	pending      map[stream.VPID]*pageset.Set // by origin: not known to be as of the freeze
	tasksSeen    map[stream.VPID]bool         // handed over by CRIU
	supplyClosed bool                         // Serve has ended
	serveErr     error

	fdHolder FDHolder // may be nil
	store    *pagestore.Store
	memory   []byte                  // the store's data file
	cancel   context.CancelCauseFunc // ends receive
	epoll    int
	wakeup   int // eventfd that ends the readers

	mu         sync.Mutex
	changed    sync.Cond // with mu: something that pick looks at
	spaces     []*space
	lastID     int32
	filling    bool
	finished   bool          // CRIU has let the tasks go
	generation uint64        // counts what Requests has to look at
	requests   *requestState // nil: nobody asks for absent pages
	err        error
	stats      Stats
}

// FDHolder holds every userfaultfd a second time, in a process that outlives this
// one for a moment. The kernel lets a task read zeros where pages are missing as
// soon as the last copy of its descriptor is closed, which is what happens when
// we are killed; a keeper ends the tasks first.
type FDHolder interface {
	HoldFD(id int32, fd int) error // before a page of the task is missed by anybody
	DropFD(id int32) error         // the task lacks nothing or is gone
}

// SetFDHolder names the keeper. It must be called before Serve.
func (s *Server) SetFDHolder(k FDHolder) { s.fdHolder = k }

// Listen makes the socket that CRIU connects to, in the directory that it gets
// as its work directory. Nobody but our own user is let in.
func Listen(workDir string) (*Server, error) {
	l, err := listen(workDir)
	if err != nil {
		return nil, fmt.Errorf("listen for CRIU in %s: %w", workDir, err)
	}
	s := &Server{listener: l, socket: filepath.Join(workDir, socketName), done: make(chan struct{}), epoll: -1, wakeup: -1,
		opened: make(chan struct{}), tasksSeen: make(map[stream.VPID]bool)}
	s.changed.L = &s.mu
	return s, nil
}

// Serve brings the pages in store to the tasks that CRIU restores: at once where
// a task touches one, the others in the background by the given number of
// workers, once Fill was called or CRIU has let the tasks go. regions are CRIU's
// pagemaps: the store must hold all of their lazy pages (ErrMissing) unless Await was
// called, and what it holds beyond them is forgotten. Serve may be called once.
//
// It returns nil when no living task lacks a page. After an error pages may be
// missing: the tasks hang when they touch one, and must be killed before Close,
// which would let them read zeros instead.
func (s *Server) Serve(ctx context.Context, store *pagestore.Store, regions map[stream.VPID][]image.Region, workers int) (Stats, error) {
	began := time.Now()
	defer close(s.done)
	err := s.prepare(store, regions)
	if err == nil {
		err = s.run(ctx, max(workers, 1))
	}
	s.closeSupply(err)
	err = errors.Join(err, s.unmap())
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.Filled, s.stats.Duration = s.filled.Load(), time.Since(began)
	if err != nil {
		return s.stats, fmt.Errorf("serve pages: %w", err)
	}
	return s.stats, nil
}

// Fill starts to bring pages in the background. Before, CRIU must have mapped
// all memory: its post-restore notification tells. Without Fill the background
// starts when the tasks are let go.
//
// It fails with [ErrTaken] if a page that is still to come is there already. Nothing may
// run then that CRIU has restored.
func (s *Server) Fill() error {
	for _, sp := range s.living() {
		if err := sp.checkUnmapped(); err != nil {
			return fmt.Errorf("memory of task %d: %w", sp.vpid, err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.filling = true
	s.changed.Broadcast()
	return nil
}

// MarkLost ends Serve because pages will never come.
func (s *Server) MarkLost(why error) {
	s.mu.Lock()
	serving := s.cancel != nil
	s.mu.Unlock()
	if serving {
		s.fail(why)
	}
}

// Done is closed when Serve has returned.
func (s *Server) Done() <-chan struct{} { return s.done }

// Progress returns how many bytes have been brought and how many there are to
// bring, these included. The total grows when a task forks and shrinks when one
// discards memory or ends.
func (s *Server) Progress() (filled, total int64) {
	filled = s.filled.Load()
	return filled, max(filled, s.total.Load())
}

// Absent is how many of the bytes still to bring have not arrived.
func (s *Server) Absent() int64 { return max(0, s.absent.Load()) }

// Close ends all address spaces, also those that lack pages: after an error of
// Serve the tasks must be dead by now. It must not be called while Serve runs.
func (s *Server) Close() error {
	var err error
	for _, e := range []error{s.listener.Close(), os.Remove(s.socket)} {
		if !errors.Is(e, net.ErrClosed) && !errors.Is(e, os.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sp := range s.spaces {
		err = errors.Join(err, unix.Close(sp.fd))
	}
	s.spaces = nil
	for _, fd := range []*int{&s.epoll, &s.wakeup} {
		if *fd >= 0 {
			err = errors.Join(err, unix.Close(*fd))
			*fd = -1
		}
	}
	return err
}

// prepare checks and maps the store.
func (s *Server) prepare(store *pagestore.Store, regions map[stream.VPID][]image.Region) (err error) {
	lazy := pageset.LazyOf(regions)
	if !s.incomplete { // else runs that still come may copy from what is not lazy: EndPush trims
		if err := pagestore.FirstOf(store.Gaps(lazy)); err != nil {
			return err
		}
		if err := store.Trim(lazy); err != nil {
			return err
		}
	}
	if s.memory, err = store.Mmap(s.room(lazy)); err != nil {
		return err
	}
	s.open(store, lazy)
	if s.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return fmt.Errorf("make an epoll instance: %w", err)
	}
	if s.wakeup, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return fmt.Errorf("make an eventfd: %w", err)
	}
	return unix.EpollCtl(s.epoll, unix.EPOLL_CTL_ADD, s.wakeup, &unix.EpollEvent{Events: unix.EPOLLIN})
}

// open lets Put, Deliver and EndPush in.
func (s *Server) open(store *pagestore.Store, lazy map[stream.VPID][]pageset.Range) {
	s.supply.Lock()
	defer s.supply.Unlock()
	s.store, s.lazy = store, lazy
	if s.incomplete {
		s.listPending()
	} else {
		s.pending, s.pushEnded = map[stream.VPID]*pageset.Set{}, true
		s.total.Store(store.Bytes())
	}
	close(s.opened)
}

// room is how much the store may grow while the server runs: by each lazy page once,
// and by what was under way of a warm-up.
func (s *Server) room(lazy map[stream.VPID][]pageset.Range) (n int64) {
	if !s.incomplete {
		return 0
	}
	for _, list := range lazy {
		n += pageset.BytesIn(list)
	}
	return n + extraRoom
}

// extraRoom is address space only.
const extraRoom = 16 << 30

func (s *Server) unmap() error {
	if s.memory == nil {
		return nil
	}
	return unix.Munmap(s.memory)
}

// run starts the readers and workers, receives tasks, and waits for the end.
func (s *Server) run(ctx context.Context, workers int) error {
	conn, err := accept(ctx, s.listener)
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s.mu.Lock()
	s.cancel = cancel
	s.mu.Unlock()
	stop := context.AfterFunc(ctx, func() {
		s.fail(context.Cause(ctx))
		conn.SetDeadline(time.Unix(1, 0))
	})
	defer stop()
	var wg sync.WaitGroup
	for range min(workers, maxReaders) {
		wg.Go(s.readFaults)
	}
	for i := range workers {
		wg.Go(func() { s.fillSpaces(i) })
	}
	if s.incomplete {
		wg.Go(s.watchEnded)
	}
	if err := s.receive(conn); err != nil {
		s.fail(err)
	}
	wg.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// pick waits for an address space to fill; nil means that there will be none.
// Forked children come last: many end soon, and what is copied to one was shared
// before.
func (s *Server) pick(worker int) *space {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if s.over() {
			return nil
		}
		if sp := choose(s.spaces, worker); s.filling && sp != nil {
			return sp
		}
		s.changed.Wait()
	}
}

// choose returns nil if there is nothing to copy to any address space now.
func choose(spaces []*space, worker int) *space {
	var restored, forked []*space
	for _, sp := range spaces {
		switch {
		case sp.idle.Load():
		case sp.forked:
			forked = append(forked, sp)
		default:
			restored = append(restored, sp)
		}
	}
	if len(restored) == 0 {
		restored = forked
	}
	if len(restored) == 0 {
		return nil
	}
	return restored[worker%len(restored)]
}

// over tells whether there is nothing left to do. The caller holds mu.
func (s *Server) over() bool {
	return s.err != nil || s.finished && len(s.spaces) == 0
}

func (s *Server) stopped() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.over()
}

// fail ends Serve with err. The address spaces stay as they are.
func (s *Server) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
		s.cancel(err)
	}
	s.wakeIfOver()
}

func (s *Server) wakeIfOver() {
	s.wakeRequests()
	if !s.over() || s.wakeup < 0 {
		return
	}
	one := binary.NativeEndian.AppendUint64(nil, 1)
	if _, err := unix.Write(s.wakeup, one); err != nil && s.err == nil {
		s.err = fmt.Errorf("wake the readers: %w", err)
	}
}

func (s *Server) count(change func(*Stats)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.stats)
}
