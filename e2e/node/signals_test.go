package node

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What is sent to a job that is frozen for a move is neither known to the dropped
// copy only nor heard twice.
func TestKillReachesTheCopyThatRuns(t *testing.T) {
	c := newCluster(t, 2, withFaults)
	a, b := c.two()
	for name, of := range map[string]struct {
		at     *node
		point  string
		goesOn bool
	}{
		"sent before the commit":    {a, "before.source.committed", true},
		"sent to a move given up":   {b, "shim.parked", false},
		"sent before the job runs":  {b, "after.target.committed", true},
		"sent when it does not yet": {b, "shim.parked", true},
	} {
		c.run(name, func(t *testing.T) {
			j := a.oracle("--mem", "4")
			had := len(j.judge(a).States)
			of.at.plan(of.point + " 1 pause")
			move := a.spawn("move", "--force", j.id, b.name)
			c.must(of.at.awaitHit(of.point, move))
			kill := a.spawn("kill", "-s", "USR1", j.id)
			select {
			case <-kill.ended:
				t.Errorf("the signal was sent to a frozen job: %v", kill.wait())
			case <-time.After(300 * time.Millisecond):
			}
			on := b
			if !of.goesOn {
				on = a
				move.signal(unix.SIGINT)
			}
			of.at.amend()
			move.wait()
			kill.wait().want(t, 0)
			eventually(t, limit, func() error {
				if n := len(j.judge(on).States) - had; n != 1 {
					return fmt.Errorf("it was heard %d times", n)
				}
				return nil
			})
			j.ticks(on, 20)
			if n := len(j.judge(on).States) - had; n != 1 {
				t.Errorf("it was heard %d times", n)
			}
			j.finish(on)
		})
	}
	c.run("killed", func(t *testing.T) {
		j := a.oracle("--mem", "4")
		a.plan("before.source.committed 1 pause")
		move := a.spawn("move", "--force", j.id, b.name)
		c.must(a.awaitHit("before.source.committed", move))
		a.migrate("rm", "-f", j.id).want(t, 1).says(t, "in a move")
		kill := a.spawn("kill", "-s", "KILL", j.id)
		a.amend()
		move.wait().want(t, 0)
		kill.wait().want(t, 0)
		a.migrate("wait", j.id).want(t, 137)
		a.migrate("rm", j.id).want(t, 0)
	})
}
