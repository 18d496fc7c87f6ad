package vm

import (
	"fmt"
	"strings"
	"testing"
)

func TestPlainUsersJobsMoveAndAreNobodyElses(t *testing.T) {
	c := newCluster(t)
	for name, flags := range map[string][]string{"without a user namespace": nil, "with a user namespace": {"--user-ns"}} {
		c.run(name, func(t *testing.T) {
			j := c.oracle(c.A, ada, flags, "--mem", "8", "--check", "8", "--sysv")
			c.owned(c.A, j, len(flags) > 0)
			j.move(c.A, c.B)
			j.ticks(c.B, 20)
			c.owned(c.B, j, len(flags) > 0)
			c.private(c.B, j)
			c.private(c.A, j)
			j.checked(c.B, "mem", "shm", "sem", "msg")
			j.finish(c.B)
		})
	}
}

// owned wants every process of the job to have ada's ids, or mapped ones.
func (c *cluster) owned(n *Node, j *job, mapped bool) {
	c.t.Helper()
	seen := 0
	for _, p := range j.inspect(n).Pids {
		uid := strings.TrimSpace(c.sh(n, fmt.Sprintf("stat -c %%u /proc/%d 2>/dev/null; true", p.Host)))
		if uid == "" {
			continue // a child of a moment
		}
		seen++
		if !mapped && uid != "1001" || uid == "0" {
			c.t.Errorf("process %d of ada's job runs on %s as uid %s", p.Host, n.Name, uid)
		}
	}
	if seen == 0 {
		c.t.Errorf("ada's job has no process on %s", n.Name)
	}
	if got := strings.TrimSpace(c.must(n, ada, "exec", j.id, "id", "-u")); got != "1001" {
		c.t.Errorf("in the job ada is uid %q", got)
	}
}

// private wants bob neither to see ada's job nor to do anything with it.
func (c *cluster) private(n *Node, j *job) {
	c.t.Helper()
	if out := c.must(n, bob, "ps", "-a", "--json"); strings.Contains(out, j.id) {
		c.t.Errorf("bob sees ada's job on %s: %s", n.Name, out)
	}
	for _, args := range [][]string{
		{"inspect", j.id}, {"logs", j.id}, {"kill", j.id}, {"exec", j.id, "true"}, {"rm", "-f", j.id},
		{"move", j.id, n.Other().Name}, {"checkpoint", j.id, "/tmp/stolen"}, {"wait", j.id},
	} {
		if r := c.migrate(n, bob, args...); r.Code == 0 || strings.Contains(r.Out, "tick") {
			c.t.Errorf("bob may %v on %s: %s", args, n.Name, r.Out)
		}
	}
	for _, script := range []string{"cat /var/lib/migrate/jobs/" + j.id + "/io/stdout", "ls /run/migrate/jobs/" + j.id} {
		if out, err := runAs(c, n, bob, script); err == nil {
			c.t.Errorf("bob may %q on %s: %s", script, n.Name, out)
		}
	}
}
