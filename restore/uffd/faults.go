package uffd

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/stream"
)

// handle handles the messages of an address space that is still open.
func (sp *space) handle() error {
	sp.gate.Lock()
	defer sp.gate.Unlock()
	if sp.closed {
		return nil
	}
	return sp.process()
}

// process follows all events and resolves all faults. When it returns nil, no change was under
// way. The caller holds gate for writing.
func (sp *space) process() error {
	for {
		events, err := sp.collect()
		if err != nil {
			return fmt.Errorf("follow task %d: %w", sp.vpid, err)
		}
		sp.batch++
		b := batch{events: events, number: sp.batch}
		err = b.apply(&sp.table, sp.server.drop, sp.fork)
		if err != nil {
			return fmt.Errorf("follow task %d: %w", sp.vpid, err)
		}
		sp.faults, sp.waiting = append(sp.waiting, sp.faults...), nil
		err = sp.resolveAll()
		switch {
		case errors.Is(err, errChanging):
			continue
		case errors.Is(err, errGone):
			return sp.end()
		case err != nil:
			return fmt.Errorf("serve a fault of task %d: %w", sp.vpid, err)
		}
		sp.clearIdle()
		return nil
	}
}

// collect reads messages until none is queued and no change is under way.
func (sp *space) collect() ([]event, error) {
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
		sp.server.count(func(st *Stats) { st.Changes += int64(len(read)) })
		switch {
		case err != nil:
			return nil, err
		case len(read) > 0:
			began = time.Now()
			continue
		case !changing(sp.fd):
			return events, nil
		case sp.server.stopped():
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
func (sp *space) resolveAll() error {
	for len(sp.faults) > 0 {
		if err := sp.resolve(sp.faults[0]); err != nil {
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
func (sp *space) resolve(addr uint64) error {
	if _, absent := covering(&sp.table.absent, addr); absent {
		sp.waitForPage(addr)
		return nil
	}
	var err error
	if wanted, ok := covering(&sp.table.ready, addr); ok {
		window := addr &^ (faultWindow - 1)
		err = sp.copyChunk(wanted.Clip(max(window, wanted.Start), window+faultWindow))
		if errors.Is(err, errUnregistered) {
			err = sp.copyPage(addr)
		}
		sp.cursor = window + faultWindow
		sp.server.count(func(st *Stats) { st.Faults++ })
	} else {
		err = zeroPage(sp.fd, addr)
		sp.server.count(func(st *Stats) { st.ZeroFaults++ })
	}
	if err != nil && !errors.Is(err, errUnregistered) {
		return err
	}
	return wake(sp.fd, addr)
}

// waitForPage leaves a thread waiting for a page that is not here. It requests the page and what
// lies around it.
func (sp *space) waitForPage(addr uint64) {
	sp.waiting = append(sp.waiting, addr)
	window := addr &^ (faultWindow - 1)
	if sp.server.requests.urgent(sp.vpid, sp.table.absent.Within(window, window+faultWindow)) {
		sp.nextRequest = window + faultWindow
	}
}

const (
	// faultWindow is how much a fault brings: the aligned window around it.
	faultWindow = 16 * stream.PageSize
	// changePause is the time between two looks at a change under way. After changeLimit the change
	// counts as stuck. A thread inside a change runs in the kernel, and needs only a turn on a core.
	changePause = 20 * time.Microsecond
	changeLimit = time.Minute
)

// readFaults handles the messages of address spaces.
func (s *Server) readFaults() {
	for {
		id, err := s.poller.wait()
		if err != nil {
			s.fail(fmt.Errorf("wait for faults: %w", err))
			return
		}
		if s.stopped() {
			return
		}
		sp := s.byID(id)
		if sp == nil {
			continue
		}
		if err := sp.handleAndRearm(); err != nil {
			s.fail(err)
			return
		}
	}
}

func (sp *space) handleAndRearm() error {
	sp.gate.Lock()
	defer sp.gate.Unlock()
	if sp.closed {
		return nil
	}
	if err := sp.process(); err != nil || sp.closed {
		return err
	}
	if err := sp.server.poller.rearm(sp.fd, sp.id); err != nil {
		return fmt.Errorf("wait for faults of task %d: %w", sp.vpid, err)
	}
	return nil
}
