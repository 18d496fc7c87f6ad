package node

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
)

// At any moment some of its processes have just been born, and wait for a processor.
func TestMoveOfAJobThatForksAllTheTimeLosesNoProcess(t *testing.T) {
	c := newCluster(t, 2)
	here, there := c.two()
	j := here.launch("--", "sh", "-c", "for i in 1 2 3 4 5 6 7 8; do while [ ! -e /tmp/end ]; do (:); done & done; echo ready; n=0; while [ ! -e /tmp/end ]; do n=$((n + 1)); (echo $n | cat) | { read m; (echo $m); } || exit 1; done; wait")
	j.ready(here)
	count := func(n *node) (last int) {
		lines := strings.Split(strings.TrimSpace(j.logs(n)), "\n")[1:]
		for i, line := range lines {
			if line != strconv.Itoa(i+1) {
				t.Fatalf("line %d of the job is %q", i+1, line)
			}
		}
		return len(lines)
	}
	for range 3 {
		j.move(here, there)
		here, there = there, here
		before := count(here)
		eventually(t, limit, func() error {
			if now := count(here); now < before+10 {
				return fmt.Errorf("the job has counted from %d to %d", before, now)
			}
			return nil
		})
	}
	here.migrate("exec", j.id, "touch", "/tmp/end").want(t, 0)
	here.migrate("wait", j.id).want(t, 0)
}
