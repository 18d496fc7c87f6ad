package pages

import (
	"slices"
	"testing"

	"github.com/migrate-hpc/migrate/checkpoint/image"
)

// entriesOf makes the entries of a table, one for each letter: c clean, d soft-dirty,
// s swapped and clean, x clean and shared with others, blank for nothing.
func entriesOf(letters string, frame uint64) []uint64 {
	var out []uint64
	for i, l := range letters {
		frame := frame + uint64(i)
		out = append(out, map[rune]uint64{
			' ': 0,
			'c': entryPresent | entryExclusive | frame,
			'x': entryPresent | frame,
			'd': entryPresent | entryExclusive | entrySoftDirty | frame,
			's': entrySwapped | frame,
		}[l])
	}
	return out
}

// The bits count only while it is certain that the table is the one of the last look.
func TestSoftDirtyBitsCountForTheTableThatStayed(t *testing.T) {
	const base = 64 * chunkSize
	for name, c := range map[string]struct {
		before, now string
		moved       bool // another table, with other frames
		want        string
	}{
		"nothing was written":           {"cccc", "cccc", false, "...."},
		"one page was written":          {"cccc", "cdcc", false, ".w.."},
		"all samples but one":           {"cccccc", "dddccd", false, "www..w"},
		"all samples":                   {"ccccc", "ddddc", false, "wwwww"},
		"another table, clean":          {"cccc", "cccc", true, "wwww"},
		"another table, written":        {"cccc", "dcdc", true, "wwww"},
		"pages that others have too":    {"xxxx", "xxxx", false, "wwww"},
		"one page of its own":           {"xxcx", "xdcx", false, ".w.."},
		"swapped since":                 {"cc", "ss", false, "ww"},
		"swapped before":                {"sc", "sc", false, ".."},
		"some have gone, some are new":  {"c c ", " dcd", false, ".w.w"},
		"the first look":                {"", "cccc", false, "wwww"},
		"a table that had no page then": {"    ", "c c ", false, "wwww"},
	} {
		b := &dirtyBits{tables: map[uint64][]sample{}}
		if c.before != "" {
			b.written(addrRange{base, base + uint64(len(c.before))*image.PageSize}, entriesOf(c.before, 1000))
		}
		frame := uint64(1000)
		if c.moved {
			frame = 5000
		}
		r := addrRange{base, base + uint64(len(c.now))*image.PageSize}
		got := make([]byte, len(c.now))
		for i := range got {
			got[i] = '.'
		}
		for _, w := range b.written(r, entriesOf(c.now, frame)) {
			for a := w.start; a < w.end; a += image.PageSize {
				got[(a-base)/image.PageSize] = 'w'
			}
		}
		if string(got) != c.want {
			t.Errorf("%s: written are %q, want %q", name, got, c.want)
		}
	}
}

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
