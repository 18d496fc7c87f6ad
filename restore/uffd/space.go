package uffd

import (
	"sync"
	"sync/atomic"

	"github.com/migrate-hpc/migrate/restore/pageset"
	"github.com/migrate-hpc/migrate/stream"
)

// space is one address space that waits for pages.
//
// Copies in the background hold gate for reading, from the look into the table to the end of the
// copy. Messages are read and handled with gate held for writing. So a copy that was decided
// before an event never follows its acknowledgement: it would bring discarded memory back.
type space struct {
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

// takeChunk takes up to size bytes out of the table for the caller to copy.
func (sp *space) takeChunk(size int64) (pageset.Span, bool) {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	next, ok := sp.table.ready.Next(sp.cursor)
	if !ok {
		next, ok = sp.table.ready.Next(0)
	}
	if !ok {
		return pageset.Span{}, false
	}
	start := max(next.Start, min(sp.cursor, next.End))
	if start == next.End {
		start = next.Start
	}
	chunk := next.Clip(start, start+uint64(size))
	sp.table.cut(chunk.Start, chunk.End)
	sp.cursor = chunk.End
	return chunk, true
}

// putBack returns what was taken and not copied.
func (sp *space) putBack(rest pageset.Span) {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	sp.table.insert(rest)
}
