package vm

import (
	"context"
	"strings"
	"testing"
)

func TestUpgradeOfKernelAndCRIUByAMove(t *testing.T) {
	c := newCluster(t)
	defer c.upgrade(KernelStable, CRIU41)
	j := c.oracle(c.A, root, nil, "--mem", "16", "--check", "8", "--tree", "2", "--sysv")
	c.must(c.A, root, "checkpoint", j.id, "/var/saved")
	before := strings.TrimSpace(c.sh(c.A, "sync; uname -r"))
	c.upgrade(KernelTesting, CRIU42)
	if now := strings.TrimSpace(c.sh(c.A, "uname -r")); now == before {
		t.Fatalf("the kernel is %s before and after", now)
	} else {
		t.Logf("kernel %s, then %s", before, now)
	}
	c.must(c.A, root, "restore", "-d", "/var/saved")
	j.ticks(c.A, 50)
	j.checked(c.A, "mem", "cow", "shared", "ring", "shm", "sem", "msg")
	j.finish(c.A)
}

// upgrade starts the first machine again with other versions.
func (c *cluster) upgrade(kernel, criu string) {
	c.t.Helper()
	c.A.PowerOff()
	c.A.Kernel, c.A.CRIU = kernel, criu
	if err := c.A.Restart(context.WithoutCancel(c.t.Context())); err != nil {
		c.t.Fatal(err)
	}
}

func TestUpgradeMovesOnlyToANewerCRIU(t *testing.T) {
	c := newCluster(t)
	old := c.useCRIU(c.B, CRIU42)
	defer func() { c.useCRIU(c.B, old) }()
	j := c.oracle(c.A, root, nil, "--mem", "8", "--check", "8")
	j.move(c.A, c.B)
	j.ticks(c.B, 20)
	r := c.migrate(c.B, root, "move", j.id, "a")
	if r.Code != 3 || !strings.Contains(r.Err, "criu-older") {
		t.Errorf("exit status %d, want 3 for criu-older: %s", r.Code, r.Err)
	}
	j.ticks(c.B, 20)
	j.finish(c.B)
}

// useCRIU starts the node's agent again with another CRIU, and returns the one before.
func (c *cluster) useCRIU(n *Node, path string) string {
	c.t.Helper()
	before := n.CRIU
	n.CRIU = path
	if err := n.StopAgent(c.t.Context(), "TERM"); err != nil {
		c.t.Fatal(err)
	}
	if err := n.StartAgent(c.t.Context()); err != nil {
		c.t.Fatal(err)
	}
	return before
}
