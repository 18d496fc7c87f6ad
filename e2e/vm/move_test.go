package vm

import (
	"maps"
	"testing"
	"time"
)

// everything makes the oracle keep all kinds of state that it knows.
var everything = []string{"--mem", "24", "--dirty", "20", "--tree", "2", "--sysv", "--mqueue", "--locks", "--deleted"}

func TestMoveBetweenMachinesAndBack(t *testing.T) {
	c := newCluster(t)
	here, there := c.A, c.B
	j := c.oracle(here, root, []string{"--hostname", "the-same"}, everything...)
	before := j.judge(here)
	for range 2 {
		j.move(here, there)
		here, there = there, here
		now := j.ticks(here, 50)
		if !maps.Equal(now.IDs, before.IDs) || now.PID != before.PID || now.Hostname != "the-same" {
			t.Errorf("pid %d on %q with ids %v, was pid %d with ids %v", now.PID, now.Hostname, now.IDs, before.PID, before.IDs)
		}
		j.checked(here, "mem", "cow", "shared", "ring", "zombie", "signals", "timers", "shm", "sem", "msg", "mqueue", "locks", "deleted")
	}
	j.finish(here)
}

func TestMoveOverASlowLink(t *testing.T) {
	c := newCluster(t)
	const delay = 3 * time.Millisecond
	for _, n := range c.Nodes() {
		c.A.lab.Segment.Slow(n.Name, delay)
		defer c.A.lab.Segment.Slow(n.Name, 0)
	}
	j := c.oracle(c.A, root, nil, "--mem", "8", "--check", "8")
	j.move(c.A, c.B)
	j.checked(c.B, "mem")
	j.finish(c.B)
}
