package node

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

func TestAVerifiedCheckpointLeavesOneJobAndCanBeRestored(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	a := c.nodes[0]
	for name, flags := range map[string][]string{"root's": nil, "in a user namespace": {"--user-ns"}} {
		c.run(name, func(t *testing.T) {
			j := a.oracleIn(flags)
			kept, saved := filepath.Join(c.dir, "kept "+name), filepath.Join(c.dir, "saved "+name)
			a.migrate("checkpoint", "--verify", "--leave-running", j.id, kept).want(t, 0)
			j.ticks(a, 20)
			a.migrate("checkpoint", "--verify", j.id, saved).want(t, 0)
			for _, v := range a.jobs() {
				if v.ID == j.id && v.State != "saved" || v.ID != j.id && v.State == "running" {
					t.Errorf("%s is %s after a verified checkpoint", v.ID, v.State)
				}
			}
			a.migrate("restore", "-d", saved).want(t, 0)
			j.finish(a)
		})
	}
	bridged := a.launch("--net", "br1", "--address", "10.88.0.9/24", "--", "sh", "-c", standing)
	bridged.ready(a)
	a.migrate("checkpoint", "--verify", bridged.id, filepath.Join(c.dir, "bridged")).want(t, 3).says(t, "--verify", "address")
}

func TestACheckpointThatFailsItsVerificationIsTakenBackAndTheJobRunsOn(t *testing.T) {
	t.Parallel()
	var change func(...string)
	c := newCluster(t, 1, func(c *cluster) { change = tampering(c.nodes[0]) })
	a := c.nodes[0]
	j := filtered(c, a, "12345")
	dir := filepath.Join(c.dir, "saved")
	change("uid_map") // which is seen before a thread has its credentials
	for _, flags := range [][]string{{"--verify"}, {"--verify", "--leave-running"}} {
		a.migrate(append(append([]string{"checkpoint"}, flags...), j.id, dir)...).want(t, 4).says(t, "cannot be restored", "uid map", "running")
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Errorf("it left %s: %v", dir, err)
		}
		j.numbers(a, 20)
	}
	change()
	a.migrate("checkpoint", "--verify", j.id, dir).want(t, 0)
	a.migrate("restore", "-d", dir).want(t, 0)
	j.numbers(a, 20)
	j.remove(c)
}

func TestAnAgentThatDiesInAVerificationLeavesTheJobAndNoCopy(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, withFaults)
	a := c.nodes[0]
	j := a.oracle()
	dir := filepath.Join(c.dir, "saved")
	a.plan("shim.parked 1 pause")
	saving := a.spawn("checkpoint", "--verify", j.id, dir)
	c.must(a.awaitHit("shim.parked", saving))
	a.kill()
	saving.wait()
	a.plan()
	a.start()
	j.ticks(a, 20)
	eventually(t, limit, func() error {
		if left := a.moves(); len(left) > 0 {
			return fmt.Errorf("not finished: %+v", left)
		}
		return nil
	})
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("it left %s: %v", dir, err)
	}
	if jobs := a.jobs(); len(jobs) != 1 || jobs[0].ID != j.id {
		t.Errorf("there are %d jobs", len(jobs))
	}
	j.finish(a)
}
