package vm

import (
	"fmt"
	"strings"
	"testing"

	"github.com/migrate-hpc/migrate/e2e/oracle"
)

// A restore that reads one page of memory may have the kernel make a whole huge page of it
// where no page of the job was brought yet.
func TestMoveLosesNoPageWithHugePagesEverywhere(t *testing.T) {
	c := newCluster(t)
	const breaker = "/var/breaker"
	for _, n := range c.Nodes() {
		if mode := c.sh(n, "cat /sys/kernel/mm/transparent_hugepage/enabled"); !strings.Contains(mode, "[always]") {
			t.Errorf("on %s: %s", n.Name, mode)
		}
		if err := n.Put(t.Context(), oracle.NeedBreaker(t), breaker, 0o755); err != nil {
			t.Fatal(err)
		}
		defer c.sh(n, "rm "+breaker)
	}
	j := c.launch(c.A, root, "-w", "/tmp", "--", breaker, "aligned")
	j.foundRight(c.A)
	c.must(c.A, root, j.moving(c.B)...)
	j.foundRight(c.B)
	c.must(c.B, root, "kill", "-s", "KILL", j.id)
	c.migrate(c.B, root, "wait", j.id)
	c.must(c.B, root, "rm", j.id)
}

// foundRight waits until the breaker has looked at all of its memory twice from now.
func (j *job) foundRight(n *Node) {
	j.c.t.Helper()
	first := -1
	j.c.eventually(func() error {
		out := j.logs(n)
		r, err := oracle.JudgeBreaker(out)
		if err != nil {
			j.c.t.Fatalf("the job is damaged: %v\n%s", err, tail(out))
		}
		if first < 0 {
			first = int(r.Oks)
		}
		if int(r.Oks) < first+3 {
			return fmt.Errorf("ok %d", r.Oks)
		}
		return nil
	})
}
