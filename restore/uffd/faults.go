package uffd

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/restore/pageset"
	"github.com/migrate-hpc/migrate/stream"
)

// handle handles the messages of an address space that is still open.
func (s *Server) handle(sp *space) error {
	sp.gate.Lock()
	defer sp.gate.Unlock()
	if sp.closed {
		return nil
	}
	return s.process(sp)
}

// process follows all events and resolves all faults. When it returns nil, no change was under
// way. The caller holds gate for writing.
func (s *Server) process(sp *space) error {
	for {
		events, err := s.collect(sp)
		if err != nil {
			return fmt.Errorf("follow task %d: %w", sp.vpid, err)
		}
		sp.batch++
		b := batch{events: events, number: sp.batch}
		err = b.apply(&sp.table, s.drop, func(child int) error { return s.fork(sp, child) })
		if err != nil {
			return fmt.Errorf("follow task %d: %w", sp.vpid, err)
		}
		sp.faults, sp.waiting = append(sp.waiting, sp.faults...), nil
		err = s.resolveAll(sp)
		switch {
		case errors.Is(err, errChanging):
			continue
		case errors.Is(err, errGone):
			return s.end(sp)
		case err != nil:
			return fmt.Errorf("serve a fault of task %d: %w", sp.vpid, err)
		}
		s.clearIdle(sp)
		return nil
	}
}

// collect reads messages until none is queued and no change is under way.
func (s *Server) collect(sp *space) ([]event, error) {
	var events []event
	began := time.Now()
	for {
		read, err := readEvents(sp.fd)
		for _, ev := range read {
			if ev.kind == msgPagefault {
				sp.faults = append(sp.faults, ev.start)
				continue
			}
			events = append(events, ev)
		}
		s.count(func(st *Stats) { st.Changes += int64(len(read)) })
		switch {
		case err != nil:
			return nil, err
		case len(read) > 0:
			began = time.Now()
			continue
		case !changing(sp.fd):
			return events, nil
		case s.stopped():
			return nil, errStopped
		case time.Since(began) > changeLimit:
			return nil, fmt.Errorf("a change of mappings takes longer than %v", changeLimit)
		}
		pause := unix.NsecToTimespec(int64(changePause))
		if err := unix.Nanosleep(&pause, nil); err != nil && !errors.Is(err, unix.EINTR) {
			return nil, err
		}
	}
}

// resolveAll serves the faults in order; what it did not get to stays.
func (s *Server) resolveAll(sp *space) error {
	for len(sp.faults) > 0 {
		if err := s.resolve(sp, sp.faults[0]); err != nil {
			return err
		}
		sp.faults = sp.faults[1:]
	}
	sp.faults = nil
	return nil
}

// resolve serves the fault at page addr and wakes the threads that wait there.
// A page that the job did not have is zero. Where nothing is mapped any more,
// the thread tries again and learns that from the kernel.
func (s *Server) resolve(sp *space, addr uint64) error {
	if _, absent := covering(&sp.table.absent, addr); absent {
		s.waitForPage(sp, addr)
		return nil
	}
	var err error
	if wanted, ok := covering(&sp.table.ready, addr); ok {
		window := addr &^ (faultWindow - 1)
		err = s.copyChunk(sp, wanted.Clip(max(window, wanted.Start), window+faultWindow))
		if errors.Is(err, errUnregistered) {
			err = s.copyPage(sp, addr)
		}
		sp.cursor = window + faultWindow
		s.count(func(st *Stats) { st.Faults++ })
	} else {
		err = zeroPage(sp.fd, addr)
		s.count(func(st *Stats) { st.ZeroFaults++ })
	}
	if err != nil && !errors.Is(err, errUnregistered) {
		return err
	}
	return wake(sp.fd, addr)
}

func covering(set *pageset.Set, addr uint64) (pageset.Span, bool) {
	sp, ok := set.Next(addr)
	return sp, ok && sp.Start <= addr
}

// waitForPage leaves a thread waiting for a page that is not here. It requests the page and what
// lies around it.
func (s *Server) waitForPage(sp *space, addr uint64) {
	sp.waiting = append(sp.waiting, addr)
	window := addr &^ (faultWindow - 1)
	if s.requestUrgent(sp.vpid, sp.table.absent.Within(window, window+faultWindow)) {
		sp.nextRequest = window + faultWindow
	}
}

// clearIdle has an address space without anything to copy looked at again.
func (s *Server) clearIdle(sp *space) {
	if sp.idle.Swap(false) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.changed.Broadcast()
	}
}

// copyPage copies the page at addr if it is still to be copied.
func (s *Server) copyPage(sp *space, addr uint64) error {
	wanted, ok := covering(&sp.table.ready, addr)
	if !ok {
		return nil
	}
	return s.copyChunk(sp, wanted.Clip(addr, addr+stream.PageSize))
}

// copyChunk copies a chunk that is in the table. The caller holds gate for writing.
func (s *Server) copyChunk(sp *space, chunk pageset.Span) error {
	sp.table.cut(chunk.Start, chunk.End)
	return s.copyOut(sp, chunk)
}

// copyOut copies a chunk that was taken out of the table, and puts back what it could not copy.
func (s *Server) copyOut(sp *space, chunk pageset.Span) error {
	n, err := copyPages(sp.fd, chunk.Start, s.memory[chunk.Off:chunk.Off+chunk.Bytes()])
	if n < chunk.Bytes() {
		sp.putBack(chunk.Clip(chunk.Start+uint64(n), chunk.End))
	}
	if n == 0 {
		return err
	}
	s.filled.Add(n)
	return errors.Join(err, s.store.Release(chunk.Clip(chunk.Start, chunk.Start+uint64(n))))
}

// drop forgets pages that no task can touch any more.
func (s *Server) drop(gone []pageset.Span) error {
	lacked := int64(0)
	for _, sp := range gone {
		s.total.Add(-sp.Bytes())
		if sp.Absent {
			lacked += sp.Bytes()
		}
	}
	if lacked > 0 {
		s.absent.Add(-lacked)
		s.mu.Lock()
		s.wakeRequests()
		s.mu.Unlock()
	}
	return s.store.Release(gone...)
}

// fork gives the child the pages that its parent still lacks.
func (s *Server) fork(parent *space, fd int) error {
	child := &space{vpid: parent.vpid, forked: true, fd: fd, table: parent.table.clone()}
	if !child.table.empty() {
		ranges, err := notInherited(parent.pid)
		if err != nil {
			return errors.Join(fmt.Errorf("fork: %w", err), s.add(child))
		}
		for _, r := range ranges {
			child.table.cut(r.Start, r.End)
		}
	}
	s.store.Retain(child.table.all())
	s.total.Add(child.table.bytes())
	s.absent.Add(child.table.absent.Data)
	s.count(func(st *Stats) { st.Forks++ })
	return s.add(child)
}

// holdFD and dropFD tell the holder, if there is one.
func (s *Server) holdFD(sp *space) error {
	if s.fdHolder == nil {
		return nil
	}
	return s.fdHolder.HoldFD(sp.id, sp.fd)
}

func (s *Server) dropFD(sp *space) error {
	if s.fdHolder == nil {
		return nil
	}
	return s.fdHolder.DropFD(sp.id)
}

// end closes an address space that lacks nothing or has ended. The caller holds gate for writing.
func (s *Server) end(sp *space) error {
	sp.closed = true
	rest := sp.table.cut(0, ^uint64(0))
	err := unix.EpollCtl(s.epoll, unix.EPOLL_CTL_DEL, sp.fd, nil)
	err = errors.Join(err, unix.Close(sp.fd), s.dropFD(sp), s.drop(rest))
	s.remove(sp)
	if err != nil {
		return fmt.Errorf("let go of task %d: %w", sp.vpid, err)
	}
	return nil
}

const (
	// faultWindow is how much a fault brings: the aligned window around it.
	faultWindow = 16 * stream.PageSize
	// changePause is the time between two looks at a change under way. After changeLimit the change
	// counts as stuck. A thread inside a change runs in the kernel, and needs only a turn on a core.
	changePause = 20 * time.Microsecond
	changeLimit = time.Minute
)
