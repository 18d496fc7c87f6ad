package node

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// full is a job whose first process has as many descriptors as it may.
func (n *node) full(flags ...string) *job {
	const script = `sleep 1000 & for i in $(seq 3 $(($(ulimit -n) - 1))); do eval "exec $i</dev/null"; done; echo ready; wait`
	j := n.launch(append(flags, "--", "bash", "-c", script)...)
	j.ready(n)
	return j
}

// descriptorLimit is the limit of the job's first process.
func (j *job) descriptorLimit(on *node) string {
	out := on.migrate("exec", j.id, "--", "cat", "/proc/1/limits").want(j.t, 0).out
	for line := range strings.Lines(out) {
		if rest, ok := strings.CutPrefix(line, "Max open files"); ok {
			return strings.Join(strings.Fields(rest)[:2], ":")
		}
	}
	j.t.Fatalf("no limit in %s", out)
	return ""
}

func TestAProcessWithAsManyDescriptorsAsItMayIsMoved(t *testing.T) {
	c := newCluster(t, 2, withFaults)
	a, b := c.two()
	for _, flags := range [][]string{nil, {"--user-ns"}} {
		j := a.full(append(flags, "--ulimit", "nofile=40:1000")...)
		a.plan("dump.ended 1 eio")
		a.migrate("move", "--force", j.id, b.name).want(t, 4)
		a.amend()
		if limit := j.descriptorLimit(a); limit != "40:1000" {
			t.Errorf("%v: the limit is %s after a move that was given up", flags, limit)
		}
		j.move(a, b)
		if limit := j.descriptorLimit(b); limit != "40:1000" {
			t.Errorf("%v: the limit is %s after a move", flags, limit)
		}
	}
}

func TestAProcessAtItsHardLimitOfDescriptorsIsMovedOrRefused(t *testing.T) {
	c := newCluster(t, 2)
	a, b := c.two()
	j := a.full("--ulimit", "nofile=40:40")
	var caps uint64
	for line := range strings.Lines(readFile(fmt.Sprintf("/proc/%d/status", os.Getpid()))) {
		if rest, ok := strings.CutPrefix(line, "CapEff:"); ok {
			_, err := fmt.Sscanf(strings.TrimSpace(rest), "%x", &caps)
			c.must(err)
		}
	}
	if caps&(1<<unix.CAP_SYS_RESOURCE) == 0 {
		a.migrate("move", "--force", j.id, b.name).want(t, 3).says(t, "descriptors-full", "--ulimit nofile=")
		j.runsOn(a)
		return
	}
	j.move(a, b)
	if limit := j.descriptorLimit(b); limit != "40:40" {
		t.Errorf("the limit is %s after a move", limit)
	}
}
