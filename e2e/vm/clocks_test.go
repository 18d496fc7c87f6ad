package vm

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestClocksGoOnBetweenUptimesHoursApart(t *testing.T) {
	c := newCluster(t)
	if a, b := c.uptime(c.A), c.uptime(c.B); !c.A.opts.KVM && b-a < older/2 {
		t.Fatalf("the machines are up for %v and %v, want about %v between them", a, b, older)
	}
	here, there := c.A, c.B
	j := c.oracle(here, root, nil, "--mem", "8", "--check", "8")
	for range 2 {
		j.move(here, there)
		here, there = there, here
		j.ticks(here, 50)
	}
	r := j.finish(here)
	// During the downtime REALTIME went on. Its own clocks may only
	// show what the restore took.
	t.Logf("jumps: MONOTONIC %v, BOOTTIME %v, REALTIME %v", r.MaxMonotonic, r.MaxBoottime, r.MaxRealtime)
	if r.MaxMonotonic >= r.MaxRealtime || r.MaxBoottime >= r.MaxRealtime {
		t.Errorf("the job's clocks jumped by %v and %v, and the downtime was %v", r.MaxMonotonic, r.MaxBoottime, r.MaxRealtime)
	}
}

func (c *cluster) uptime(n *Node) time.Duration {
	c.t.Helper()
	text := c.sh(n, "cat /proc/uptime")
	seconds, err := strconv.ParseFloat(strings.Fields(text)[0], 64)
	if err != nil {
		c.t.Fatal(err)
	}
	return time.Duration(seconds * float64(time.Second))
}

func TestClockOfTheTargetMustNotBeBehind(t *testing.T) {
	c := newCluster(t)
	defer c.setTime(0)
	j := c.oracle(c.A, root, nil)
	c.setTime(-time.Minute)
	r := c.migrate(c.A, root, "move", j.id, "b")
	if r.Code != 3 || !strings.Contains(r.Err, "clock") {
		t.Errorf("exit status %d, want 3: %s", r.Code, r.Err)
	}
	j.ticks(c.A, 20)
	c.setTime(time.Second)
	j.move(c.A, c.B)
	j.ticks(c.B, 20)
	j.finish(c.B)
}

// setTime makes the second machine's wall clock differ from ours.
func (c *cluster) setTime(by time.Duration) {
	c.t.Helper()
	if err := c.B.SetClock(context.WithoutCancel(c.t.Context()), by); err != nil {
		c.t.Fatal(err)
	}
}
