package pages

import (
	"slices"
	"testing"
)

// TestTheOldWayFindsTheSamePages compares PAGEMAP_SCAN with the entries themselves.
func TestTheOldWayFindsTheSamePages(t *testing.T) {
	p := launch(t, "discard")
	tasks := p.stop(t)
	maps, err := lazyMappings(tasks[0].PID)
	if err != nil {
		t.Fatal(err)
	}
	table, err := openPagemap(tasks[0].PID)
	if err != nil {
		t.Fatal(err)
	}
	defer table.close()
	for _, m := range maps {
		var each, read []addrRange
		if err := table.each(m, func(r addrRange) error { each = appendRange(each, r); return nil }); err != nil {
			t.Fatal(err)
		}
		if err := table.readEach(m, func(r addrRange) error { read = appendRange(read, r); return nil }); err != nil {
			t.Fatal(err)
		}
		if table.old {
			missing(t, "this kernel has no PAGEMAP_SCAN (Linux 6.7)")
		}
		if !slices.EqualFunc(each, read, func(a, b addrRange) bool { return a == b }) && covers(read, each) != nil {
			t.Errorf("in %#x: scan finds %v, the entries say %v", m, each, read)
		}
	}
}

// covers lists what of the ranges is not in all: pages of zeros may be in all alone.
func covers(all, ranges []addrRange) (left []addrRange) {
	for _, r := range ranges {
		if !slices.ContainsFunc(all, func(a addrRange) bool { return a.start <= r.start && r.end <= a.end }) {
			left = append(left, r)
		}
	}
	return left
}
