package node

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestAgentKilledLeavesItsJobsRunning(t *testing.T) {
	c := newCluster(t, 2)
	a, b := c.two()
	j := a.oracle("--mem", "16")
	follower := spawn(t, 2*limit, nil, shared.migrate, "--socket", a.socket(), "logs", "-f", j.id)
	front := a.foreground("--name", "front", "-w", "/tmp", "--", shared.oracle, "--count")
	other := a.named("front")
	before := j.judge(a)
	for range 3 {
		a.kill()
		a.migrate("ps").want(t, 1).says(t, "no agent", a.socket(), "try:")
		a.goesOn(j)
		a.start()
		j.ticks(a, 20)
	}
	if now := j.judge(a); now.Last.Counter < before.Last.Counter+60 {
		t.Errorf("the counter went from %d to %d only", before.Last.Counter, now.Last.Counter)
	}
	a.migrate("exec", j.id, "true").want(t, 0)
	j.state(a)
	j.runsOn(a)
	j.move(a, b)
	other.move(a, b)
	b.kill()
	b.start()
	j.ticks(b, 20)
	j.move(b, a)
	j.finish(a)
	other.end(b)
	for who, p := range map[string]*process{"logs -f": follower, "run in the foreground": front} {
		if r := p.wait().want(t, 0); !strings.HasSuffix(r.out, "bye\n") {
			t.Errorf("%s did not follow to the end: %v", who, r)
		}
	}
}

func (c *cluster) otherThan(n *node) *node {
	if n == c.nodes[0] {
		return c.nodes[1]
	}
	return c.nodes[0]
}

// moveDuring moves the job and does harm as soon as the phase is told. A target
// that stays away keeps a committed move waiting, so the harm is healed if the
// command has not ended after a while.
func (j *job) moveDuring(from, to *node, phase string, harm, heal func()) result {
	j.t.Helper()
	var once sync.Once
	p := spawn(j.t, 2*limit, func(line string) {
		var e event
		if json.Unmarshal([]byte(line), &e) == nil && e.Phase == phase {
			once.Do(harm)
		}
	}, shared.migrate, "--socket", from.socket(), "move", "--force", j.id, to.name, "--json")
	select {
	case <-p.ended:
	case <-time.After(2 * time.Second):
		heal()
	}
	return p.wait()
}

// goesOn waits until the job has written on, on a node that has no agent to ask.
func (n *node) goesOn(j *job) {
	n.c.t.Helper()
	size := func() int64 {
		info, err := os.Stat(filepath.Join(n.state(), "jobs", j.id, "io", "stdout"))
		n.c.must(err)
		return info.Size()
	}
	first := size()
	eventually(n.c.t, limit, func() error {
		if now := size(); now < first+1000 {
			return fmt.Errorf("the job has written %d bytes and then %d", first, now)
		}
		return nil
	})
}

// settled waits until the job runs on one node, and all know where.
func (j *job) settled(c *cluster) *node {
	j.t.Helper()
	var on *node
	eventually(j.t, limit, func() error {
		var errs []string
		for _, n := range c.nodes {
			err := j.whereabouts(n)
			if err == nil {
				on = n
				return j.oneCopy(c)
			}
			errs = append(errs, err.Error())
		}
		return fmt.Errorf("the job runs nowhere: %s", strings.Join(errs, "; "))
	})
	return on
}

// oneCopy counts what the kernel has, whatever agents say.
func (j *job) oneCopy(c *cluster) error {
	if n := len(j.copies(c)); n != 1 {
		return fmt.Errorf("the job has %d cgroups: %v", n, j.copies(c))
	}
	return nil
}

func (j *job) atMostOnce(c *cluster) error {
	if n := len(j.copies(c)); n > 1 {
		return fmt.Errorf("the job has %d cgroups: %v", n, j.copies(c))
	}
	return nil
}

// copies are the names of the job's cgroups.
func (j *job) copies(c *cluster) []string {
	groups := map[string]bool{}
	for _, n := range c.nodes {
		for _, dir := range n.cgroups() {
			if strings.HasSuffix(dir, j.id) {
				groups[filepath.Base(dir)] = true
			}
		}
	}
	return slices.Collect(maps.Keys(groups))
}

// wantOutcome compares what the user was told with where the job is.
func wantOutcome(t *testing.T, r result, on, from *node) {
	t.Helper()
	if r.took > limit {
		t.Errorf("the user waited for %v: %v", r.took, r)
	}
	switch r.code {
	case 0, 6: // moved
		if on == from {
			t.Errorf("the user was told that the job moved, and it is where it was: %v", r)
		}
	case 1, 4: // failed, aborted
		if on != from {
			t.Errorf("the user was told that the job did not move, and it did: %v", r)
		}
	case 5: // in doubt
		r.says(t, "try:")
	default:
		t.Errorf("unexpected: %v", r)
	}
}
