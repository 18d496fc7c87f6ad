package uffd

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/restore/pageset"
	"github.com/migrate-hpc/migrate/stream"
)

// chunkSize is what a background copy brings at once. A fault waits for the
// copies under way in its address space, so it bounds the delay of a fault.
const chunkSize = 64 * stream.PageSize

// copyNext copies one chunk with gate held for reading. more is false if the
// table was empty. With errUnregistered it returns the chunk.
func (sp *space) copyNext() (chunk pageset.Span, more bool, err error) {
	sp.gate.RLock()
	defer sp.gate.RUnlock()
	if sp.closed {
		return pageset.Span{}, true, nil
	}
	chunk, more = sp.takeChunk(chunkSize)
	if !more {
		return pageset.Span{}, false, nil
	}
	sp.populate(chunk)
	return chunk, true, sp.copyOut(chunk)
}

// populate maps a chunk of the store, which saves the kernel a detour for every few pages that it
// copies. It may fail (before Linux 5.14): the copy works without it. If the pages cannot be had,
// the copy reports that.
func (sp *space) populate(chunk pageset.Span) {
	_ = unix.Madvise(sp.server.memory[chunk.Off:chunk.Off+chunk.Bytes()], unix.MADV_POPULATE_READ)
}

// copyPage copies the page at addr if it is still to be copied.
func (sp *space) copyPage(addr uint64) error {
	wanted, ok := covering(&sp.table.ready, addr)
	if !ok {
		return nil
	}
	return sp.copyChunk(wanted.Clip(addr, addr+stream.PageSize))
}

// copyChunk copies a chunk that is in the table. The caller holds gate for writing.
func (sp *space) copyChunk(chunk pageset.Span) error {
	sp.table.cut(chunk.Start, chunk.End)
	return sp.copyOut(chunk)
}

// copyOut copies a chunk that was taken out of the table, and puts back what it could not copy.
func (sp *space) copyOut(chunk pageset.Span) error {
	s := sp.server
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
