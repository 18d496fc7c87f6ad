package node

import (
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestClocksGoOnFromTheFreeze(t *testing.T) {
	c := newCluster(t, 2)
	here, there := c.two()
	j := here.oracle("--mem", "128")
	for range 3 {
		j.move(here, there)
		here, there = there, here
		j.ticks(here, 10)
		j.sameClockInside(here)
	}
	r := j.finish(here)
	// During the downtime REALTIME went on. Its own clocks may only
	// show what the restore took.
	if r.MaxMonotonic >= r.MaxRealtime || r.MaxBoottime >= r.MaxRealtime {
		t.Errorf("the job's clocks jumped by %v and %v during a downtime of %v", r.MaxMonotonic, r.MaxBoottime, r.MaxRealtime)
	}
}

// sameClockInside wants a command that is run in the job to read the job's
// clocks: of later than the last tick, and not those of the host.
func (j *job) sameClockInside(n *node) {
	j.t.Helper()
	before := j.judge(n).Last
	text := n.migrate("exec", j.id, "cat", "/proc/uptime").want(j.t, 0).out
	seconds, err := strconv.ParseFloat(strings.Fields(text)[0], 64)
	if err != nil {
		j.t.Fatal(err)
	}
	uptime := time.Duration(seconds * float64(time.Second))
	after := j.ticks(n, 1).Last
	const rounded = 10 * time.Millisecond // /proc/uptime has two decimals
	if uptime < before.Boottime-rounded || uptime > after.Boottime+rounded {
		j.t.Errorf("exec reads %v, the job %v before and %v after it", uptime, before.Boottime, after.Boottime)
	}
	if v := j.inspect(n); v.Clocks == nil || v.Clocks.Boottime < before.Boottime || v.Clocks.Boottime > before.Boottime+time.Minute {
		j.t.Errorf("inspect says %+v, the last tick was at %v", v.Clocks, before.Boottime)
	}
}

func TestRestoreClocksAreContinuousOrElapsed(t *testing.T) {
	c := newCluster(t, 2)
	a, b := c.two()
	const away = 1500 * time.Millisecond
	for mode, check := range map[string]func(jump time.Duration) bool{
		"continuous": func(jump time.Duration) bool { return jump < away },
		"elapsed":    func(jump time.Duration) bool { return jump >= away },
	} {
		c.run(mode, func(t *testing.T) {
			j := a.oracle()
			dir := filepath.Join(c.dir, "clock-"+mode)
			a.migrate("checkpoint", j.id, dir).want(t, 0)
			//house:allow time.Sleep: what is tested is that time has passed
			time.Sleep(away)
			b.migrate("restore", "-d", "--clock", mode, dir).want(t, 0)
			r := j.ticks(b, 10)
			if !check(r.MaxMonotonic) || !check(r.MaxBoottime) {
				t.Errorf("monotonic jumped by %v, boottime by %v; away for at least %v", r.MaxMonotonic, r.MaxBoottime, away)
			}
			j.sameClockInside(b)
			a.migrate("rm", "-f", j.id)
		})
	}
}
