package uffd

import (
	"maps"
	"testing"

	"github.com/migrate-hpc/migrate/restore/pageset"
	"github.com/migrate-hpc/migrate/stream"
)

// play applies events to a table with pages A (10…) and X (20…). Their data is at offsets 10… and
// 20….
func play(t *testing.T, events ...event) (flat, error) {
	t.Helper()
	var table table
	table.insert(pageset.Span{Start: 10 * stream.PageSize, End: 14 * stream.PageSize, Off: 10 * stream.PageSize})
	table.insert(pageset.Span{Start: 20 * stream.PageSize, End: 24 * stream.PageSize, Off: 20 * stream.PageSize})
	b := batch{events: events, number: 1}
	err := b.apply(&table, func([]pageset.Span) error { return nil }, func(int) error { return nil })
	return flatten(table.all()), err
}

func remap(from, to uint64) event {
	return event{kind: msgRemap, start: from * stream.PageSize, end: (from + 4) * stream.PageSize, to: to * stream.PageSize}
}

func unmap(from uint64) event {
	return event{kind: msgUnmap, start: from * stream.PageSize, end: (from + 4) * stream.PageSize}
}

func at(page, data uint64) flat {
	return flatten([]pageset.Span{{Start: page * stream.PageSize, End: (page + 4) * stream.PageSize, Off: int64(data) * stream.PageSize}})
}

func both(a, b flat) flat {
	out := maps.Clone(a)
	maps.Copy(out, b)
	return out
}

func TestEventsOutOfOrderLoseNoPage(t *testing.T) {
	for _, c := range []struct {
		name   string
		events []event
		want   flat
	}{
		{"A unmapped, X moves there", []event{unmap(10), remap(20, 10)}, at(10, 20)},
		{"swapped in the queue", []event{remap(20, 10), unmap(10)}, at(10, 20)},
		{"A moves, X moves there", []event{remap(10, 30), unmap(10), remap(20, 10), unmap(20)}, both(at(30, 10), at(10, 20))},
		{"X's event between A's", []event{remap(10, 30), remap(20, 10), unmap(10), unmap(20)}, both(at(30, 10), at(10, 20))},
		{"X's event before A's", []event{remap(20, 10), remap(10, 30), unmap(10), unmap(20)}, both(at(30, 10), at(10, 20))},
		{"all of X's before A's", []event{remap(20, 10), unmap(20), remap(10, 30), unmap(10)}, both(at(30, 10), at(10, 20))},
		{"discarded after the move", []event{remap(20, 30), {kind: msgRemove, start: 30 * stream.PageSize, end: 34 * stream.PageSize}}, at(10, 10)},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := play(t, c.events...)
			if err != nil {
				t.Fatal(err)
			}
			if !maps.Equal(got, c.want) {
				t.Fatalf("table %v, want %v", got, c.want)
			}
		})
	}
}

func TestOrderThatCannotBeToldIsAnError(t *testing.T) {
	if _, err := play(t, remap(20, 10), remap(10, 30), unmap(10), unmap(10)); err == nil {
		t.Fatal("no error")
	}
}

func TestUnmapInTheBatchOfTheArrivalLeavesTheLastWordToTheKernel(t *testing.T) {
	var table table
	table.insert(pageset.Span{Start: 0, End: 4 * stream.PageSize, Off: 0})
	drop := func([]pageset.Span) error { return nil }
	fork := func(int) error { return nil }
	first := batch{number: 1, events: []event{{kind: msgRemap, start: 0, end: 4 * stream.PageSize, to: 10 * stream.PageSize}, unmap(10)}}
	if err := first.apply(&table, drop, fork); err != nil {
		t.Fatal(err)
	}
	if all := table.all(); len(all) != 1 || !all[0].Weak {
		t.Fatalf("spans %+v, want one that is weak", all)
	}
	second := batch{number: 2, events: []event{unmap(10)}}
	if err := second.apply(&table, drop, fork); err != nil {
		t.Fatal(err)
	}
	if !table.empty() {
		t.Fatalf("spans %+v, want none", table.all())
	}
}

func FuzzDecodeEvent(f *testing.F) {
	f.Add(make([]byte, msgSize))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) != msgSize {
			return
		}
		if ev, err := decodeEvent(b); err == nil && ev.kind == msgPagefault && ev.start%stream.PageSize != 0 {
			t.Fatal(ev)
		}
	})
}
