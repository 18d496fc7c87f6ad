package node

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// pulls makes a move whose memory is pulled after the commit, slowly enough that the
// pull goes on for some seconds.
func pulls(rate string) []string {
	return []string{"--stop-copy", "--post-copy", "--verify", "--bandwidth", rate}
}

// pull moves the job so and does harm once memory is being pulled. It returns how the
// command ended, which is when all memory is on the target.
func (j *job) pull(from, to *node, rate string, harm func()) result {
	j.t.Helper()
	var once sync.Once
	harmed := make(chan struct{})
	args := append([]string{"--socket", from.socket(), "move", j.id, to.name, "--json"}, pulls(rate)...)
	p := spawn(j.t, 3*limit, func(line string) {
		var e event
		if json.Unmarshal([]byte(line), &e) == nil && e.Phase == "pull" {
			once.Do(func() { close(harmed) })
		}
	}, shared.migrate, args...)
	select {
	case <-harmed:
		harm()
	case <-p.ended:
		j.t.Fatalf("nothing was pulled: %v", p.outcome)
	}
	return p.wait()
}

// complete waits until the job has all its memory on n and no other node has a copy.
func (j *job) complete(n *node, most time.Duration) {
	j.t.Helper()
	eventually(j.t, most, func() error {
		if v := j.inspect(n); v.State != "running" || v.Absent > 0 {
			return fmt.Errorf("the job is %s, and %d bytes are absent", v.State, v.Absent)
		}
		return j.oneCopy(n.c)
	})
}

func TestPostCopyPullsMemoryWhileTheJobRuns(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	a, b := c.two()
	j := a.oracle("--mem", "192", "--dirty", "20", "--tree", "3", "--sysv")
	var during view
	r := j.pull(a, b, "40M", func() {
		j.ticks(b, 50)
		during = j.inspect(b)
		b.migrate("move", j.id, a.name).want(t, 3).says(t, "still being pulled", a.name)
		b.migrate("checkpoint", j.id, c.dir+"/saved").want(t, 3).says(t, "still being pulled", a.name)
		b.migrate("inspect", j.id).want(t, 0).lists(t, "Pulling", a.name)
	}).want(t, 0)
	if during.State != "running" || during.Absent == 0 || during.PulledFrom != a.name {
		t.Errorf("during the pull the job is %s, %d bytes are absent, from %q", during.State, during.Absent, during.PulledFrom)
	}
	events := decodeEvents(t, r.out)
	done := events[len(events)-1].Done
	if done == nil || done.Mode != "post-copy" || done.Pulled < 90<<20 || done.Downtime > done.Took/2 {
		t.Errorf("the result: %+v", done)
	}
	j.runsOn(b)
	j.complete(b, limit)
	j.ticks(b, 50)
	j.state(b)
	j.move(b, a)
	j.finish(a)
}

func TestPostCopyKeepsThePagesOfRounds(t *testing.T) {
	c := newCluster(t, 2)
	a, b := c.two()
	j := a.oracle("--mem", "128", "--dirty", "400", "--check", "64")
	r := a.migrate("move", j.id, b.name, "--json", "--verify", "--post-copy", "--max-downtime", "1ms").want(t, 0)
	events := decodeEvents(t, r.out)
	done := events[len(events)-1].Done
	if done.Mode != "post-copy" || done.Pulled == 0 {
		t.Errorf("the result: %+v", done)
	}
	j.runsOn(b)
	j.complete(b, limit)
	j.ticks(b, 100)
	j.finish(b)
}

func TestPostCopyOutlivesTheCableAndBothAgents(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	a := c.nodes[0]
	interrupted := func(from *node) {
		eventually(t, limit, func() error {
			if !strings.Contains(readFile(from.logPath()), "the pull is interrupted") {
				return fmt.Errorf("the source has not noticed")
			}
			return nil
		})
	}
	swallow := func(n *node) {
		n.in("nft", "add", "table", "inet", "void").want(t, 0)
		n.in("nft", "add", "chain", "inet", "void", "in", "{ type filter hook input priority 0; policy accept; }").want(t, 0)
		n.in("nft", "add", "rule", "inet", "void", "in", "tcp", "dport", port, "drop").want(t, 0)
		n.in("nft", "add", "rule", "inet", "void", "in", "tcp", "sport", port, "drop").want(t, 0)
	}
	on := a
	for _, tc := range []struct {
		name string
		harm func(from, to *node)
	}{
		{"the cable is pulled", func(from, to *node) {
			c.cut(a)
			interrupted(from)
			c.join(a)
		}},
		{"the link swallows everything", func(from, to *node) {
			swallow(to)
			interrupted(from)
			to.in("nft", "delete", "table", "inet", "void").want(t, 0)
		}},
		{"the source's agent is killed", func(from, to *node) {
			from.kill()
			from.start()
		}},
		{"the target's agent is killed", func(from, to *node) {
			to.kill()
			to.start()
		}},
		{"both agents are killed", func(from, to *node) {
			from.kill()
			to.kill()
			from.start()
			to.start()
		}},
	} {
		c.run(tc.name, func(t *testing.T) {
			from, to := on, c.otherThan(on)
			j := from.oracle("--mem", "192", "--dirty", "10", "--tree", "2")
			j.pull(from, to, "30M", func() {
				j.inspect(to)
				tc.harm(from, to)
			})
			j.complete(to, 2*limit)
			j.runsOn(to)
			j.ticks(to, 50)
			j.finish(to)
		})
	}
}

func TestPostCopyJobThatEndsIsOverOnBothNodes(t *testing.T) {
	c := newCluster(t, 2)
	a, b := c.two()
	j := a.oracle("--mem", "192", "--tree", "2")
	j.pull(a, b, "20M", func() {
		b.migrate("kill", "-s", "KILL", j.id).want(t, 0)
	}).want(t, 0)
	v := j.inspect(b)
	if v.State != "exited" || v.Exit == nil || v.Exit.Signal != int(syscall.SIGKILL) {
		t.Errorf("the job is %s, exit %+v", v.State, v.Exit)
	}
	if v := j.inspect(a); v.Node != b.name || v.State != "exited" {
		t.Errorf("seen from the source it is %s on %s", v.State, v.Node)
	}
	eventually(t, limit, func() error {
		if groups := append(a.cgroups(), b.cgroups()...); len(groups) > 0 {
			return fmt.Errorf("left behind: %v", groups)
		}
		return nil
	})
}

func TestPostCopyEndsAJobWhoseMemoryIsLost(t *testing.T) {
	c := newCluster(t, 2)
	a, b := c.two()
	j := a.oracle("--mem", "192")
	tasks := j.inspect(a).Pids
	j.pull(a, b, "10M", func() {
		a.kill()
		for _, p := range tasks {
			c.must(syscall.Kill(p.Host, syscall.SIGKILL))
		}
		c.must(syscall.Kill(a.shimOf(j.id), syscall.SIGKILL))
		a.thawAll() // the freezer holds up even that
		a.start()
	})
	eventually(t, 2*limit, func() error {
		if v := j.inspect(b); v.State != "exited" {
			return fmt.Errorf("the job is %s", v.State)
		}
		return nil
	})
	eventually(t, limit, func() error {
		if groups := a.cgroups(); len(groups) > 0 {
			return fmt.Errorf("left behind: %v", groups)
		}
		return nil
	})
	if log := b.shimLog(j.id); !strings.Contains(log, "cannot be completed") {
		t.Errorf("the shim's log does not say why: %s", log)
	}
	if said := j.stderr(b); strings.Contains(said, "ORACLE FAIL") {
		t.Errorf("the job read wrong memory: %s", said)
	}
}

// A copy that waits for memory which the source alone has is none that could be taken.
func TestPostCopyWithoutMemoryCannotBeResolved(t *testing.T) {
	c := newCluster(t, 2, withFaults)
	a, b := c.two()
	j := a.oracle("--mem", "128")
	b.plan("after.target.prepared 1 pause")
	p := a.spawn(append([]string{"move", j.id, b.name}, pulls("10M")...)...)
	if err := b.awaitHit("after.target.prepared", p); err != nil {
		t.Fatal(err)
	}
	a.kill()
	c.cut(a)
	b.amend()
	open := b.moves()
	if len(open) != 1 || open[0].State != "prepared" {
		t.Fatalf("moves are %+v", open)
	}
	b.migrate("resolve", open[0].Move, "--take", "--yes").want(t, 3).says(t, "lacks", a.name, "--drop")
	c.join(a)
	a.start()
	p.wait()
	if on := j.settled(c); on != a {
		t.Errorf("the job is on %s", on.name)
	}
	j.ticks(a, 20)
	j.finish(a)
}
