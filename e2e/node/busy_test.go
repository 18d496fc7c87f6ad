package node

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// busy keeps all processors busy, with so many loops each, until the test is over.
func busy(t *testing.T, each int) {
	t.Helper()
	for range each * processors() {
		cmd := exec.Command("timeout", "300", "/bin/sh", "-c", "while :; do :; done")
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			_ = cmd.Wait()
		})
	}
}

func processors() int {
	text, _ := os.ReadFile("/proc/cpuinfo")
	return max(1, strings.Count(string(text), "processor\t"))
}

// The warm-up does not wait until the node has nothing else to do.
func TestMoveFromABusyNodeHasLowPriorityAndSaysSo(t *testing.T) {
	c := newCluster(t, 2)
	a, b := c.two()
	j := a.oracle("--mem", "64")
	busy(t, 4)
	r := a.spawn("move", "--json", j.id, b.name).wait().want(t, 0)
	r.lists(t, `"takes_turns":true`)
	j.ticks(b, 20)
	j.finish(b)
}
