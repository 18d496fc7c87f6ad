package uffd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/restore/pageset"
	"github.com/migrate-hpc/migrate/restore/pagestore"
	"github.com/migrate-hpc/migrate/stream"
)

// Serve brings the pages in store to the tasks that CRIU restores. A page that a task touches
// comes at once, the others in the background by the given number of workers. The background
// starts with Fill, or when CRIU has let the tasks go. Serve may be called once.
//
// regions are CRIU's pagemaps. The store must hold all of their lazy pages (ErrMissing), unless
// AllowIncomplete was called. What it holds beyond them is removed.
//
// Serve returns nil when no living task lacks a page. After an error pages may be missing, and a
// task hangs when it touches one. Such tasks must be killed before Close, which would let them
// read zeros instead.
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

// room is how much the store may grow while the server runs. That is each lazy page once, and the
// warm-up pages that were under way.
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

// maxReaders bounds the threads that wait for faults.
const maxReaders = 4

// MarkLost ends Serve because pages will never come.
func (s *Server) MarkLost(why error) {
	s.mu.Lock()
	serving := s.cancel != nil
	s.mu.Unlock()
	if serving {
		s.fail(why)
	}
}

// Fill starts to bring pages in the background. CRIU must have mapped all memory by then: its
// post-restore notification tells. Without Fill the background starts when the tasks are let go.
//
// It fails with [ErrAlreadyMapped] if a page that is still to come is mapped. No restored task may
// run then.
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

// Close ends all address spaces, also those that lack pages. After an error of Serve the tasks
// must be dead by now. It must not be called while Serve runs.
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
