package vm

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/migrate-hpc/migrate/e2e/vm/guest/api"
)

func TestCgroup2LimitsMoveWithAJob(t *testing.T) {
	c := newCluster(t)
	c.sh(c.A, "test -f /sys/fs/cgroup/cgroup.controllers && ! grep -q ' cgroup ' /proc/mounts")
	j := c.oracle(c.A, root, []string{"--memory", "200M", "--cpus", "0.75", "--pids-limit", "60"}, "--mem", "8", "--check", "8", "--tree", "2")
	c.limited(c.A, j)
	j.move(c.A, c.B)
	c.limited(c.B, j)
	j.ticks(c.B, 20)
	if left := c.sh(c.A, "find /sys/fs/cgroup -name '*"+j.id+"*'"); left != "" {
		t.Errorf("the cgroup of the job is still on the node that it has left: %s", left)
	}
	// Another agent finds its cgroup as the first one has left it.
	if err := c.B.StopAgent(t.Context(), "TERM"); err != nil {
		t.Fatal(err)
	}
	if err := c.B.StartAgent(t.Context()); err != nil {
		t.Fatal(err)
	}
	j.move(c.B, c.A)
	c.limited(c.A, j)
	j.finish(c.A)
	again := c.oracle(c.B, root, []string{"--memory", "100M"})
	again.finish(c.B)
}

// limited wants the limits to hold in the job's cgroup, and all its tasks to be in
// there.
func (c *cluster) limited(n *Node, j *job) {
	c.t.Helper()
	v := j.inspect(n)
	for file, want := range map[string]string{"memory.max": strconv.Itoa(200 << 20), "cpu.max": "75000 100000", "pids.max": "60"} {
		if got := strings.TrimSpace(c.sh(n, "cat "+filepath.Join(v.CgroupDir, file))); got != want {
			c.t.Errorf("%s of the job on %s is %q, want %q", file, n.Name, got, want)
		}
	}
	namespace := strings.TrimSpace(c.sh(n, fmt.Sprintf("readlink /proc/%d/ns/pid", v.Init)))
	// Children of a moment are gone before they are looked at.
	tasks := strings.Split(strings.TrimSpace(c.sh(n, "find /proc -mindepth 3 -maxdepth 3 -path '/proc/[0-9]*/ns/pid' -lname '"+
		strings.NewReplacer("[", "\\[", "]", "\\]").Replace(namespace)+"' 2>/dev/null | cut -d / -f 3 | sed 's,.*,/proc/&/cgroup,' | xargs grep -s . ; true")), "\n")
	for _, task := range tasks {
		if !strings.Contains(task, j.id) {
			c.t.Errorf("a process of the job is outside of its cgroup on %s: %s", n.Name, task)
		}
	}
	if len(tasks) < 3 {
		c.t.Errorf("the job's processes are %q", tasks)
	}
}

// runAs runs a shell command as a user; an exit status is an error.
func runAs(c *cluster, n *Node, who as, script string) (string, error) {
	c.t.Helper()
	r, err := n.Run(c.t.Context(), api.Command{Args: []string{"sh", "-c", script}, UID: uint32(who), GID: uint32(who), Dir: "/"})
	if err != nil {
		c.t.Fatal(err)
	}
	if r.Code != 0 {
		return r.Out, fmt.Errorf("exit status %d: %s", r.Code, r.Err)
	}
	return r.Out, nil
}
