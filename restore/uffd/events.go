package uffd

import (
	"fmt"

	"github.com/migrate-hpc/migrate/restore/pageset"
)

// A batch is what one address space reported between two moments. At both, none of its
// threads was inside a change of mappings.
//
// The kernel queues an event after it has changed the mappings and released their lock. So
// the events of two threads may be queued in another order than the changes happened. One
// such swap matters. Thread 1 vacates a range by munmap or mremap. Thread 2 moves memory
// there before thread 1 has queued its event. Taken in the order of the queue, thread 2's
// pages would be lost:
//
//	done by the kernel    1: A → B     2: X → A
//	queued                2: X → A     1: A → B     1: unmap A
//
// Both events are in the same batch, because a change counts as under way until its event
// has been read. So if memory arrives where pages are still expected, an event further back
// in the batch comes first. And an unmap never hits what arrived in its own batch. If a
// doubt is left, copying decides: it is refused where nothing is mapped any more.
//
// Other swaps (with fork or madvise) are between threads that race for the same memory.
// Either outcome is right.
type batch struct {
	events  []event
	applied []bool
	number  uint32
}

// apply makes the table follow the events. Dropped spans go to drop; every fork gets the table as
// it is then.
func (b *batch) apply(t *table, drop func([]pageset.Span) error, fork func(child int) error) error {
	b.applied = make([]bool, len(b.events))
	for i := range b.events {
		if err := b.applyOne(i, t, drop, fork); err != nil {
			return err
		}
	}
	return nil
}

func (b *batch) applyOne(i int, t *table, drop func([]pageset.Span) error, fork func(int) error) error {
	if b.applied[i] {
		return nil
	}
	b.applied[i] = true
	ev := b.events[i]
	switch ev.kind {
	case msgFork:
		return fork(ev.child)
	case msgRemove:
		return drop(t.cut(ev.start, ev.end))
	case msgUnmap:
		return b.unmap(ev, t, drop)
	case msgRemap:
		return b.remap(i, t, drop, fork)
	}
	return nil
}

func (b *batch) unmap(ev event, t *table, drop func([]pageset.Span) error) error {
	var gone []pageset.Span
	for _, sp := range t.cut(ev.start, ev.end) {
		if sp.Batch != b.number {
			gone = append(gone, sp)
			continue
		}
		sp.Weak = true
		t.insert(sp)
	}
	return drop(gone)
}

func (b *batch) remap(i int, t *table, drop func([]pageset.Span) error, fork func(int) error) error {
	ev := b.events[i]
	size := ev.end - ev.start
	if len(t.within(ev.to, ev.to+size)) > 0 {
		if err := b.vacate(i, t, drop, fork); err != nil {
			return err
		}
	}
	moved := t.cut(ev.start, ev.end)
	if err := drop(t.cut(ev.to, ev.to+size)); err != nil {
		return err
	}
	for _, sp := range moved {
		sp.Start, sp.End = sp.Start-ev.start+ev.to, sp.End-ev.start+ev.to
		sp.Batch, sp.Weak = b.number, false
		t.insert(sp)
	}
	return nil
}

// vacate applies the event behind i that took the pages away from the target of event i. If there
// is none, they were unmapped, and i drops them.
func (b *batch) vacate(i int, t *table, drop func([]pageset.Span) error, fork func(int) error) error {
	to, end := b.events[i].to, b.events[i].to+b.events[i].end-b.events[i].start
	first, unmaps := -1, 0
	for j := i + 1; j < len(b.events); j++ {
		ev := b.events[j]
		if b.applied[j] || ev.end <= to || ev.start >= end {
			continue
		}
		switch {
		case ev.kind == msgUnmap:
			unmaps++
		case ev.kind == msgRemap && first < 0:
			first = j
		}
	}
	if first < 0 {
		return nil
	}
	// One mremap brings one unmap of what it left. A second one may mean that
	// an munmap came first and the mremap moved what arrived: cannot be told.
	if unmaps > 1 {
		return fmt.Errorf("order of changes at [%#x, %#x) cannot be told from %d events", to, end, len(b.events))
	}
	return b.applyOne(first, t, drop, fork)
}
