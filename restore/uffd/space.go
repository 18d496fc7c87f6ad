package uffd

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/stream"
)

// space is one address space that waits for pages.
//
// Copies in the background hold gate for reading, from the look into the table to the end of the
// copy. Messages are read and handled with gate held for writing. So a copy that was decided
// before an event never follows its acknowledgement: it would bring discarded memory back.
type space struct {
	server *Server
	id     int32
	vpid   stream.VPID
	pid    int  // 0 if unknown
	forked bool // made by a fork after the restore
	fd     int

	gate    sync.RWMutex
	closed  bool     // under gate
	faults  []uint64 // pages that threads wait for; under gate, for writing
	waiting []uint64 // those of them that are absent; under gate, for writing
	batch   uint32   // number of the last batch; under gate, for writing

	mu          sync.Mutex // among holders of gate for reading
	table       table      // pages that are still to be copied
	cursor      uint64     // where the background copies go on
	nextRequest uint64     // where asking for absent pages goes on

	idle atomic.Bool // nothing to copy, but some pages are absent
}

// clearIdle has an address space without anything to copy looked at again.
func (sp *space) clearIdle() {
	if sp.idle.Swap(false) {
		sp.server.mu.Lock()
		defer sp.server.mu.Unlock()
		sp.server.changed.Broadcast()
	}
}

func (sp *space) hasEnded() bool {
	sp.gate.RLock()
	defer sp.gate.RUnlock()
	if sp.closed {
		return false
	}
	sp.mu.Lock()
	defer sp.mu.Unlock()
	first, ok := sp.table.absent.Next(0)
	return ok && gone(sp.fd, first.Start)
}

// endGone closes an address space that has ended.
func (sp *space) endGone() error {
	sp.gate.Lock()
	defer sp.gate.Unlock()
	if sp.closed {
		return nil
	}
	return sp.end()
}

// end closes an address space that lacks nothing or has ended. The caller holds gate for writing.
func (sp *space) end() error {
	s := sp.server
	sp.closed = true
	rest := sp.table.cut(0, ^uint64(0))
	err := s.poller.remove(sp.fd)
	err = errors.Join(err, unix.Close(sp.fd), sp.dropFD(), s.drop(rest))
	s.remove(sp)
	if err != nil {
		return fmt.Errorf("let go of task %d: %w", sp.vpid, err)
	}
	return nil
}

// holdFD and dropFD tell the holder, if there is one.
func (sp *space) holdFD() error {
	if sp.server.fdHolder == nil {
		return nil
	}
	return sp.server.fdHolder.HoldFD(sp.id, sp.fd)
}

func (sp *space) dropFD() error {
	if sp.server.fdHolder == nil {
		return nil
	}
	return sp.server.fdHolder.DropFD(sp.id)
}
