package node

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// A job whose memory is still being filled in must not outlive the process that
// fills it: what has not arrived would read as zeros. The oracle compares its
// memory all the time and would say so.
func TestMoveNeverShowsZeroPagesWhenTheShimIsKilled(t *testing.T) {
	c := newCluster(t, 2)
	a, b := c.two()
	j := a.oracle("--mem", "400")
	j.moveDuring(a, b, "release", func() {
		pid := b.shimOf(j.id)
		if pid == 0 {
			t.Error("no shim on the target at the release")
			return
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Error(err)
		}
	}, func() {})
	whole := strings.Contains(b.shimLog(j.id), "memory in place")
	t.Logf("memory was whole already: %v", whole)
	eventually(t, limit, func() error {
		for _, dir := range b.cgroups() {
			if data, err := os.ReadFile(filepath.Join(dir, "cgroup.procs")); err == nil && len(data) > 0 && !whole {
				return fmt.Errorf("tasks are left in %s", dir)
			}
		}
		return nil
	})
	if !whole && !strings.Contains(b.shimLog(j.id), "the job is ended") {
		t.Errorf("the guard does not say what it did: %s", b.shimLog(j.id))
	}
	if said := j.stderr(b); strings.Contains(said, "ORACLE FAIL") {
		t.Errorf("the job read wrong memory: %s", said)
	}
	if v := j.inspect(b); v.State != "lost" {
		t.Errorf("the job is %s", v.State)
	}
	b.migrate("rm", "-f", j.id).want(t, 0)
}

// shimOf finds the shim of a job by its command line, 0 if there is none.
func (n *node) shimOf(id string) int {
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	n.c.must(err)
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		args := bytes.Split(data, []byte{0})
		if len(args) > 1 && string(args[0]) == "migrate:shim" && string(args[1]) == filepath.Join(n.run(), "jobs", id) {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(f)))
			n.c.must(err)
			return pid
		}
	}
	return 0
}

// shimLog is what the shim of a job, and its guard, have said on this node.
func (n *node) shimLog(id string) string {
	data, err := os.ReadFile(filepath.Join(n.state(), "jobs", id, "shim.log"))
	n.c.must(err)
	return string(data)
}
