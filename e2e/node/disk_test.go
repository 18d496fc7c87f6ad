package node

import (
	"fmt"
	"path/filepath"
	"syscall"
	"testing"
)

// fullDiskPlan is a disk that takes nothing any more.
const fullDiskPlan = "write.* 1+ enospc"

// A job that ends where no record of that can be written has run all the same.
func TestMoveToAFullDiskKeepsTheExitOfTheJob(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, withFaults)
	a, b := c.two()
	j := a.oracle("--mem", "8")
	const point = "before.target.done"
	b.plan(point + " 1 pause")
	p := a.spawn("move", "--force", j.id, b.name)
	c.must(b.awaitHit(point, p))
	pids := j.inspect(b).Pids
	b.amend(fullDiskPlan)
	for _, pid := range pids {
		if pid.Job == 1 {
			c.must(syscall.Kill(pid.Host, syscall.SIGKILL))
		}
	}
	eventually(t, limit, func() error {
		if v := j.inspect(b); v.State != "exited" || v.Exit == nil || v.Exit.Signal != int(syscall.SIGKILL) {
			return fmt.Errorf("with a full disk the job is %s, exit %+v", v.State, v.Exit)
		}
		return nil
	})
	if b.shimOf(j.id) == 0 {
		t.Error("the shim has left without having written down how its job ended")
	}
	b.amend()
	p.wait().want(t, 0)
	eventually(t, limit, func() error {
		for _, n := range c.nodes {
			if err := n.settled(); err != nil {
				return err
			}
			if groups := n.cgroups(); len(groups) > 0 {
				return fmt.Errorf("left behind: %v", groups)
			}
		}
		if v := j.inspect(a); v.Node != b.name || v.State != "exited" || v.Exit == nil || v.Exit.Signal != int(syscall.SIGKILL) {
			return fmt.Errorf("seen from the source it is %s on %s, exit %+v", v.State, v.Node, v.Exit)
		}
		return nil
	})
}

func TestRestoreStoppedByAFullDiskIsUndone(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, withFaults)
	a, b := c.two()
	for _, point := range []string{"before.target.committed", "after.target.committed"} {
		c.run(point, func(t *testing.T) {
			j := a.oracle("--mem", "8")
			dir := filepath.Join(c.dir, j.id)
			a.migrate("checkpoint", j.id, dir).want(t, 0)
			b.plan(point + " 1 pause")
			p := b.spawn("restore", "-d", dir)
			c.must(b.awaitHit(point, p))
			b.amend(fullDiskPlan)
			p.wait().want(t, 5).says(t, "no space left", dir, "migrate moves")
			b.amend()
			eventually(t, limit, func() error {
				if groups := b.cgroups(); len(groups) > 0 {
					return fmt.Errorf("left behind: %v", groups)
				}
				return b.settled()
			})
			a.migrate("restore", "-d", dir).want(t, 0) // nothing stands in the way
			j.ticks(a, 20)
			j.finish(a)
		})
	}
}
