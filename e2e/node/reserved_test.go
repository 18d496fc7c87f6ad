package node

import (
	"fmt"
	"strings"
	"testing"
)

// Run-time systems reserve more address space than there is memory, and say nothing of it to the
// kernel's accounting.
func TestReservedAddressSpaceMovesAsItWas(t *testing.T) {
	c := newCluster(t, 2)
	here, there := c.two()
	j := here.launch("--", shared.helper, "reserve")
	j.ready(here)
	lines := func(n *node) int { return strings.Count(j.logs(n), "\n") }
	// What the kernel keeps of the largest mapping that is only reserved.
	reserved := func(n *node) (flags string) {
		var start, end, largest uint64
		var perms string
		for _, line := range strings.Split(readFile(fmt.Sprintf("/proc/%d/smaps", j.inspect(n).Init)), "\n") {
			if f, ok := strings.CutPrefix(line, "VmFlags:"); ok && perms == "---p" && end-start > largest {
				largest, flags = end-start, f
			}
			_, _ = fmt.Sscanf(line, "%x-%x %s", &start, &end, &perms) // other lines do not match
		}
		return flags
	}
	was := reserved(here)
	for range 2 {
		j.move(here, there)
		here, there = there, here
		before := lines(here)
		eventually(t, limit, func() error {
			if now := lines(here); now < before+10 {
				return fmt.Errorf("it has gone on from line %d to %d, and its stderr is %q", before, now, j.stderr(here))
			}
			return nil
		})
		if is := reserved(here); is != was {
			t.Errorf("the mapping is %q after a move, and was %q", is, was)
		}
	}
}
