package vm

import (
	"fmt"
	"strings"
	"testing"
)

// The limit holds for a plain user's job, on cgroup v2, on the node that it comes to.
func TestLogsLimitOfAPlainUserMovesWithTheJob(t *testing.T) {
	c := newCluster(t)
	j := c.launch(c.A, ada, "--output-limit", "1M", "-w", "/tmp", "--", "bash", "-c", `trap "while :; do head -c 65536 /dev/zero; done" USR1; echo ready; while :; do sleep 0.1; done`)
	c.eventually(func() error {
		if !strings.Contains(j.logs(c.A), "ready\n") {
			return fmt.Errorf("the job is not ready")
		}
		return nil
	})
	j.move(c.A, c.B)
	c.must(c.B, ada, "kill", "-s", "USR1", j.id)
	for _, n := range c.Nodes() {
		if r := c.migrate(n, ada, "wait", j.id); r.Code != 153 || !strings.Contains(r.Err, "its output limit of 1.0 MiB is reached") {
			t.Errorf("seen from %s: status %d, %s", n.Name, r.Code, r.Err)
		}
	}
	if got := len(j.logs(c.B)); got > 1<<20 {
		t.Errorf("%d bytes of output are kept", got)
	}
	c.must(c.B, ada, "rm", j.id)
}
