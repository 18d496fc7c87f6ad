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
	s.supply.close(err)
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
		wg.Go((&filler{s, i}).fill)
	}
	if s.supply.incomplete {
		wg.Go(s.watchEnded)
	}
	tasks := handover{s, conn}
	if err := tasks.receive(); err != nil {
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
	if !s.supply.incomplete { // else runs that still come may copy from what is not lazy: EndPush trims
		if err := pagestore.FirstOf(store.Gaps(lazy)); err != nil {
			return err
		}
		if err := store.Trim(lazy); err != nil {
			return err
		}
	}
	if s.memory, err = store.Mmap(s.supply.room(lazy)); err != nil {
		return err
	}
	s.supply.open(store, lazy)
	return s.poller.open()
}

func (s *Server) unmap() error {
	if s.memory == nil {
		return nil
	}
	return unix.Munmap(s.memory)
}

// maxReaders bounds the threads that wait for faults.
const maxReaders = 4

// AllowIncomplete makes the server accept a store that is not complete. It serves a page only when
// that is known to be of the freeze. Deliver says so page by page, EndPush for all. It must be
// called before Serve.
func (s *Server) AllowIncomplete() { s.supply.incomplete = true }

// Put stores pages that may not be of the freeze yet: a later version replaces an earlier one. It
// waits until Serve has opened the store.
func (s *Server) Put(runs []stream.Run) error { return s.supply.put(runs) }

// EndPush says that every page in the store is of the freeze. With pull, Deliver brings the
// missing ones. Without, a missing page is ErrMissing, and nothing has changed. A second call
// changes nothing.
func (s *Server) EndPush(pull bool) error { return s.supply.endPush(pull) }

// Deliver brings pages of the freeze, data or zero, to the address spaces that wait for them. It
// skips pages that were delivered before, and those that are not lazy. It comes after EndPush;
// after the end of Serve it does nothing.
func (s *Server) Deliver(runs []stream.Run) error { return s.supply.deliver(runs) }

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
	return errors.Join(err, s.poller.close())
}

// endedEvery is how often address spaces with absent pages are checked for their end.
const endedEvery = 100 * time.Millisecond

// watchEnded closes address spaces that have ended while nothing was copied to them. A copy would
// have told.
func (s *Server) watchEnded() {
	for !s.stopped() {
		time.Sleep(endedEvery)
		for _, sp := range s.living() {
			if !sp.idle.Load() || !sp.hasEnded() {
				continue
			}
			if err := sp.endGone(); err != nil {
				s.fail(err)
				return
			}
		}
	}
}
