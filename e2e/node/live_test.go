package node

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// moveBy moves the job with flags and returns what was told.
func (j *job) moveBy(from, to *node, want int, flags ...string) []event {
	j.t.Helper()
	args := append([]string{"move", "--json", "--verify"}, flags...)
	return decodeEvents(j.t, from.migrate(append(args, j.id, to.name)...).want(j.t, want).out)
}

func last(events []event) event { return events[len(events)-1] }

func TestMoveSendsMemoryInRoundsWhileTheJobRuns(t *testing.T) {
	c := newCluster(t, 2)
	here, there := c.two()
	j := here.oracle("--mem", "96", "--dirty", "10", "--tree", "3")
	for range 3 {
		done := last(j.moveBy(here, there, 0)).Done
		if done.Mode != "pre-copy" || len(done.Rounds) < 2 {
			t.Errorf("mode %s, rounds %+v", done.Mode, done.Rounds)
		}
		first, again := done.Rounds[0], done.Rounds[len(done.Rounds)-1]
		if first.Dirty < 70<<20 || again.Dirty >= first.Dirty/2 {
			t.Errorf("the first round sent %d bytes, the last %d", first.Dirty, again.Dirty)
		}
		if again.Reason == "" || first.Tracking == "" {
			t.Errorf("the last round says %+v", again)
		}
		here, there = there, here
		j.ticks(here, 30)
	}
	j.checksAll(here, "mem", "cow", "shared")
	j.finish(here)
}

// The rounds give way to jobs, so here they take long. What they tell of the node is not
// what it can do while the job is frozen.
func TestMoveFromABusyNodeSucceeds(t *testing.T) {
	c := newCluster(t, 2)
	here, there := c.two()
	j := here.oracle("--mem", "64", "--dirty", "1")
	here.launch("--", "/bin/sh", "-c", fmt.Sprintf("for i in $(seq %d); do while :; do :; done & done; wait", 2*runtime.NumCPU()))
	done := last(j.moveBy(here, there, 0)).Done
	for _, r := range done.Rounds {
		t.Log(r.Reason)
	}
	j.ticks(there, 30)
	j.finish(there)
}

// wild writes all its memory a hundred times per second, which a slow link cannot
// follow.
func wild(n *node) *job { return n.oracle("--mem", "64", "--dirty", "10000") }

func TestMoveNeverStopsAJobThatRoundsCannotFollow(t *testing.T) {
	c := newCluster(t, 2)
	here, there := c.two()
	j := wild(here)
	events := j.moveBy(here, there, 4, "--bandwidth", "10M")
	e := last(events).Error
	if e == nil || e.Code != "aborted" || !strings.Contains(e.Message, "stays above") || !strings.Contains(e.Where, "never stopped") || !strings.Contains(e.Hint, "--throttle") {
		t.Errorf("the error is %+v", e)
	}
	for _, e := range events {
		if e.Phase == "freeze" {
			t.Error("the job was frozen")
		}
	}
	j.runsOn(here)
	done := last(j.moveBy(here, there, 0, "--bandwidth", "60M", "--force")).Done
	if reason := done.Rounds[len(done.Rounds)-1].Reason; !strings.Contains(reason, "taken, as told") {
		t.Errorf("with --force the last round says %q", reason)
	}
	j.runsOn(there)
	j.ticks(there, 20)
	j.finish(there)
}

func TestMoveThrottleEndsWithTheMove(t *testing.T) {
	c := newCluster(t, 2)
	here, there := c.two()
	j := wild(here)
	events := j.moveBy(here, there, 4, "--bandwidth", "60M", "--throttle", "--max-downtime", "1ms")
	j.runsOn(here)
	j.unlimited(here)
	if e := last(events).Error; e == nil || !strings.Contains(e.Hint, "--max-downtime") {
		t.Errorf("the error is %+v", e)
	}
	throttled := 0
	for _, e := range j.moveBy(here, there, 0, "--bandwidth", "20M", "--throttle", "--force") {
		if e.Round != nil && e.Round.CPU < 100 {
			throttled++
		}
	}
	if throttled == 0 {
		t.Error("the job was never slowed down")
	}
	j.runsOn(there)
	j.unlimited(there)
	j.ticks(there, 20)
	j.finish(there)
}

// unlimited wants the job to have all the processor time there is.
func (j *job) unlimited(n *node) {
	j.t.Helper()
	dirs := j.inspect(n).Cgroup
	for file, want := range map[string]string{
		filepath.Join(dirs["cpu"], "cpu.cfs_quota_us"): "-1",
		filepath.Join(dirs["unified"], "cpu.max"):      "max 100000",
	} {
		if data, err := os.ReadFile(file); err == nil && strings.TrimSpace(string(data)) != want {
			j.t.Errorf("%s holds %q", file, data)
		}
	}
}

func TestMoveThrottleEndsWithARestartOfTheAgent(t *testing.T) {
	c := newCluster(t, 2)
	here, there := c.two()
	j := wild(here)
	slowed := make(chan struct{}, 8)
	spawn(t, limit, func(line string) {
		if strings.Contains(line, `"cpu":50`) {
			slowed <- struct{}{}
		}
	}, shared.migrate, "--socket", here.socket(), "move", "--json", "--bandwidth", "20M", "--throttle", "--force", j.id, there.name)
	select {
	case <-slowed:
	case <-time.After(limit):
		t.Fatal("the job was never slowed down")
	}
	here.kill()
	here.start()
	j.runsOn(here)
	j.unlimited(here)
	j.ticks(here, 20)
	j.finish(here)
}
