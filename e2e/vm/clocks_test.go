package vm

import (
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestClocksGoOnAlthoughTheMachinesUptimesDifferByHours(t *testing.T) {
	const older = 5 * time.Hour
	c := newCluster(t, func(n *Node) error {
		if n.Name != "b" {
			return nil
		}
		return n.Age(t.Context(), older)
	})
	if a, b := c.uptime(c.A), c.uptime(c.B); b-a < older-time.Minute {
		t.Fatalf("the machines are up for %v and %v, want %v between them", a, b, older)
	}
	here, there := c.A, c.B
	j := c.oracle(here, root, nil, "--mem", "8", "--check", "8")
	for range 2 {
		j.move(here, there)
		here, there = there, here
		j.ticks(here, 50)
	}
	r := j.finish(here)
	// All the while that it stood still REALTIME went on. Its own clocks may only
	// show what the restore took.
	t.Logf("jumps: MONOTONIC %v, BOOTTIME %v, REALTIME %v", r.MaxMonotonic, r.MaxBoottime, r.MaxRealtime)
	if r.MaxMonotonic >= r.MaxRealtime || r.MaxBoottime >= r.MaxRealtime {
		t.Errorf("the job's clocks jumped by %v and %v, and it stood still for %v", r.MaxMonotonic, r.MaxBoottime, r.MaxRealtime)
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
