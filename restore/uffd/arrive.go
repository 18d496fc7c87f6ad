package uffd

import (
	"github.com/migrate-hpc/migrate/restore/pageset"
	"github.com/migrate-hpc/migrate/stream"
)

// deliver makes pages ready, and serves the threads that wait for one of them.
func (sp *space) deliver(pieces []pageset.Span, arrive func(*table, []pageset.Span) []pageset.Span) error {
	if !sp.makeReady(pieces, arrive) {
		return nil
	}
	err := sp.handle()
	if err != nil {
		sp.server.fail(err)
	}
	return err
}

// makeReady returns whether a thread waits for one of the pages.
func (sp *space) makeReady(pieces []pageset.Span, arrive func(*table, []pageset.Span) []pageset.Span) (wake bool) {
	sp.gate.RLock()
	defer sp.gate.RUnlock()
	if sp.closed {
		return false
	}
	sp.mu.Lock()
	defer sp.mu.Unlock()
	s := sp.server
	came := arrive(&sp.table, pieces)
	for _, c := range came {
		s.absent.Add(-c.Bytes())
		if c.Zero() {
			s.total.Add(-c.Bytes())
		}
	}
	s.store.Retain(came)
	for _, addr := range sp.waiting {
		wake = wake || len(sp.table.absent.Within(addr, addr+stream.PageSize)) == 0
	}
	sp.clearIdle()
	return wake
}
