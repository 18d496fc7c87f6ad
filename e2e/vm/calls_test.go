package vm

import (
	"fmt"
	"strings"
	"testing"

	"github.com/migrate-hpc/migrate/e2e/oracle"
)

// A version 2 freeze wakes every thread that sleeps, which version 1 does not.
func TestWaitingCallsGoOnAfterStopsOnCgroup2(t *testing.T) {
	c := newCluster(t)
	const calls = "/var/calls"
	for _, n := range c.Nodes() {
		if err := n.Put(t.Context(), oracle.NeedCalls(t), calls, 0o755); err != nil {
			t.Fatal(err)
		}
		defer c.sh(n, "rm "+calls)
	}
	j := c.launch(c.A, root, "-w", "/tmp", "--", calls, "60")
	c.eventually(func() error {
		if out := j.logs(c.A); out != "ready\n" {
			return fmt.Errorf("it says %q", out)
		}
		return nil
	})
	c.must(c.A, root, j.moving(c.B)...)
	c.must(c.B, root, "checkpoint", "--leave-running", j.id, "/var/saved-calls")
	defer c.sh(c.B, "rm -r /var/saved-calls")
	c.must(c.B, root, "wait", j.id)
	out := j.logs(c.B)
	if n := strings.Count(out, " ok\n"); n != 15 || strings.Contains(out, "wrong") || !strings.HasSuffix(out, "done\n") {
		t.Errorf("%d calls went on:\n%s", n, out)
	}
	c.must(c.B, root, "rm", j.id)
}
