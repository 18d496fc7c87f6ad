package node

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// runs counts the nodes on which a copy of the job has tasks; it asks the kernel.
func (j *job) runs(c *cluster) (on []string) {
	for _, n := range c.nodes {
		if n.copyOf(j) != "" {
			on = append(on, n.name)
		}
	}
	return on
}

func (j *job) onlyOn(c *cluster, on *node) {
	j.t.Helper()
	if got := j.runs(c); len(got) != 1 || got[0] != on.name {
		j.t.Fatalf("the job runs on %q, want %s alone", got, on.name)
	}
}

// forget removes what restores have left in a checkpoint, as its user may.
func forget(dir string) error {
	claims, err := filepath.Glob(filepath.Join(dir, "restored-*"))
	for _, f := range claims {
		if rm := os.Remove(f); rm != nil && !os.IsNotExist(rm) {
			err = rm
		}
	}
	return err
}

func TestRestoreRefusesAJobThatLivesAnywhere(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	a, b := c.nodes[0], c.nodes[1]
	last := c.nodes[2]
	j := a.oracle("--mem", "8")
	dir := filepath.Join(c.dir, "saved")
	a.migrate("checkpoint", "--leave-running", j.id, dir).want(t, 0)
	refused := func(on, runs *node) {
		t.Helper()
		c.must(forget(dir))
		on.migrate("restore", "-d", dir).want(t, 3).says(t, j.id, "alive", runs.name, "try:")
		j.onlyOn(c, runs)
	}
	refused(b, a) // it was left running where it was saved
	j.move(a, b)
	refused(last, b) // it has moved since
	refused(b, b)
	b.migrate("rm", "-f", j.id).want(t, 0)
	b.migrate("restore", "-d", dir).want(t, 0)
	j.onlyOn(c, b)
	refused(last, b) // its claims are gone, and no record is on the node that saved it
	refused(a, b)
	j.move(b, last)
	refused(a, last)
	refused(b, last)
	j.ticks(last, 10)
	later := filepath.Join(c.dir, "later")
	last.migrate("checkpoint", j.id, later).want(t, 0)
	a.migrate("restore", "-d", later).want(t, 0) // a job that rests may go on anywhere, once
	j.onlyOn(c, a)
	refused(b, a)
	last.migrate("restore", "-d", later).want(t, 3).says(t, "alive", a.name)
	j.finish(a)
	last.migrate("restore", "-d", dir).want(t, 0) // from the older one, when it is over
	j.onlyOn(c, last)
	j.ticks(last, 10)
}

func TestRestoreRefusesWhileANodeCannotBeAsked(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	a, b := c.two()
	j := a.oracleIn([]string{"--user-ns"}, "--mem", "8")
	dir := filepath.Join(c.dir, "saved")
	a.migrate("checkpoint", "--leave-running", j.id, dir).want(t, 0)
	c.cut(a)
	b.migrate("restore", "-d", dir).want(t, 3).says(t, a.name, "--declared-dead "+a.name, "as root")
	b.as("12345", "restore", "-d", "--declared-dead", a.name, dir).want(t, 1).says(t, "only root")
	b.migrate("restore", "-d", "--declared-dead", "another", dir).want(t, 3).says(t, a.name)
	j.onlyOn(c, a)
	c.join(a)
	b.migrate("restore", "-d", "--declared-dead", a.name, dir).want(t, 3).says(t, "alive", a.name) // it answers
	j.onlyOn(c, a)
	j.ticks(a, 10)
}

func TestRestoreIsToldToANodeThatWasDownBeforeItDecides(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	a, b := c.two()
	j := a.oracle("--mem", "8")
	dir := filepath.Join(c.dir, "saved")
	a.migrate("checkpoint", j.id, dir).want(t, 0)
	a.kill()
	c.must(change(filepath.Join(a.state(), "epochs.json"), func(d []byte) []byte { // another boot of the node
		d = regexp.MustCompile(`"crc32c":"[^"]*",`).ReplaceAll(d, nil)
		return regexp.MustCompile(`"boot":"[^"]*"`).ReplaceAll(d, []byte(`"boot":"earlier"`))
	}))
	c.cut(a)
	b.migrate("restore", "-d", "--declared-dead", a.name, dir).want(t, 0)
	c.must(forget(dir))
	if waits := b.moves(); len(waits) != 1 || !strings.Contains(waits[0].WaitFor, a.name) {
		t.Errorf("%s has not heard of it, and moves are %+v", a.name, waits)
	}
	a.start()
	a.migrate("restore", "-d", dir).want(t, 3).says(t, "went down", b.name)
	a.migrate("restore", "-d", "--declared-dead", a.name, dir).want(t, 3).says(t, "went down", b.name)
	j.onlyOn(c, b)
	c.join(a)
	eventually(t, 2*limit, func() error {
		if r := a.migrate("restore", "-d", dir); r.code != 3 || !strings.Contains(r.err, "alive") {
			return fmt.Errorf("the answer is %v", r)
		}
		if waits := b.moves(); len(waits) != 0 {
			return fmt.Errorf("moves are %+v", waits)
		}
		return nil
	})
	j.onlyOn(c, b)
	j.finish(b)
}

func TestRestorePastADeadNodeEndsTheOlderCopy(t *testing.T) {
	t.Parallel()
	nothing := func() {}
	for name, meanwhile := range map[string]func(t *testing.T, c *cluster, j *job) (holder *node, resume func()){
		"it stayed where it was": func(_ *testing.T, c *cluster, _ *job) (*node, func()) { return c.nodes[0], nothing },
		"its agent was started again": func(_ *testing.T, c *cluster, _ *job) (*node, func()) {
			c.nodes[0].kill()
			c.nodes[0].start()
			return c.nodes[0], nothing
		},
		"the operator's agent was started again": func(_ *testing.T, c *cluster, _ *job) (*node, func()) {
			c.nodes[2].kill()
			c.nodes[2].start()
			return c.nodes[0], nothing
		},
		"a scheduler had suspended it": func(t *testing.T, c *cluster, j *job) (*node, func()) {
			f := freezerOf(j.inspect(c.nodes[0]).CgroupDir)
			f.freeze(t)
			return c.nodes[0], func() { _ = os.WriteFile(filepath.Join(f.dir, f.file), []byte(f.off), 0) } // it may be gone
		},
		"it moved on its own side": func(_ *testing.T, c *cluster, j *job) (*node, func()) {
			for range 3 { // its epoch grows with every move
				j.move(c.nodes[0], c.nodes[1])
				j.move(c.nodes[1], c.nodes[0])
			}
			j.move(c.nodes[0], c.nodes[1])
			return c.nodes[1], nothing
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, 3)
			a, side, b := c.nodes[0], c.nodes[1], c.nodes[2]
			j := a.oracle("--mem", "8", "--tree", "2")
			dir := filepath.Join(c.dir, "saved")
			a.migrate("checkpoint", "--leave-running", j.id, dir).want(t, 0)
			c.cut(side)
			b.migrate("restore", "-d", "--declared-dead", a.name, dir).want(t, 3).says(t, side.name) // may know more
			b.migrate("restore", "-d", "--declared-dead", a.name, "--declared-dead", side.name, dir).want(t, 0)
			j.ticks(b, 10)
			holder, resume := meanwhile(t, c, j)
			if got := j.runs(c); len(got) != 2 {
				t.Fatalf("the job runs on %q", got)
			}
			c.join(side)
			eventually(t, 2*limit, func() error {
				v := j.inspectedOn(holder)
				if v.Superseded != nil {
					resume() // with version 1 nothing that is suspended ends
				}
				if got := j.runs(c); len(got) != 1 || got[0] != b.name {
					return fmt.Errorf("the job runs on %q", got)
				}
				if v.State != "exited" || v.Exit == nil || v.Exit.Code != 137 || v.Superseded == nil || v.Superseded.Node != b.name {
					return fmt.Errorf("on %s the job is %+v", holder.name, v)
				}
				return nil
			})
			holder.migrate("inspect", j.id).want(t, 0).lists(t, "superseded", b.name, "declared dead")
			if log := readFile(holder.logPath()); !strings.Contains(log, "was brought back elsewhere") {
				t.Error("the agent's log does not say that it has ended a copy")
			}
			j.ticks(b, 20)
			j.move(b, side)
			j.move(side, a) // nothing of the other copy stands in the way
			j.onlyOn(c, a)
			j.finish(a)
		})
	}
}

// inspectedOn is what one node has in its own list.
func (j *job) inspectedOn(n *node) view {
	for _, v := range n.jobs() {
		if v.ID == j.id {
			return v
		}
	}
	return view{}
}

func TestRestoreOfManyAtATimeRunsOne(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	a := c.nodes[0]
	j := a.oracle("--mem", "8")
	dir := filepath.Join(c.dir, "saved")
	a.migrate("checkpoint", j.id, dir).want(t, 0)
	for range 4 {
		stop := make(chan struct{})
		var remover sync.WaitGroup
		remover.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					_ = forget(dir) // the faster one
				}
			}
		})
		var restores []*process
		for _, n := range c.nodes {
			restores = append(restores, n.spawn("restore", "-d", dir))
		}
		won := 0
		for _, p := range restores {
			if r := p.wait(); r.code == 0 {
				won++
			}
		}
		close(stop)
		remover.Wait()
		on := j.runs(c)
		if won > 1 || len(on) != won {
			t.Fatalf("%d restores succeeded, and the job runs on %q", won, on)
		}
		if won == 1 {
			j.ticks(c.named(on[0]), 5)
			c.named(on[0]).migrate("rm", "-f", j.id).want(t, 0)
		}
	}
}

func (c *cluster) named(name string) *node {
	for _, n := range c.nodes {
		if n.name == name {
			return n
		}
	}
	c.t.Fatalf("no node %s", name)
	return nil
}

func TestRunMayReuseTheNameOfAJobThatEndedElsewhere(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	a, b, last := c.nodes[0], c.nodes[1], c.nodes[2]
	first := a.oracleIn([]string{"--name", "sim"})
	first.move(a, b)
	first.move(b, last)
	first.finish(last)
	for _, n := range []*node{a, b, last} { // also those that it has left
		n.migrate("ps", "-a").want(t, 0).lists(t, "sim", "exited (0)")
		n.migrate("ps").want(t, 0).lacks(t, first.id)
	}
	second := a.oracleIn([]string{"--name", "sim"})
	if v := (&job{t, "sim"}).inspect(a); v.ID != second.id {
		t.Errorf("sim is %s, want %s", v.ID, second.id)
	}
	second.move(a, b)
	if v := (&job{t, "sim"}).inspect(a); v.ID != second.id || v.Node != b.name {
		t.Errorf("sim is %s on %s, want %s on %s", v.ID, v.Node, second.id, b.name)
	}
	c.cut(b)                                                          // between b and last
	a.migrate("ps", "-a").want(t, 0).lists(t, first.id, "exited (0)") // it is written down
	second.move(b, a)
	c.cut(a)
	third := b.oracleIn([]string{"--name", "sim"})
	if v := (&job{t, third.id}).inspect(b); v.ID != third.id {
		t.Errorf("found %s", v.ID)
	}
	b.migrate("ps").want(t, 0).lists(t, second.id, "moved", a.name) // its node does not know
	b.migrate("inspect", "sim").want(t, 2).says(t, "several")
	b.migrate("rm", first.id).want(t, 0) // what is over can be forgotten although its node is away
	c.join(a)
	c.join(b)
	second.finish(a)
	if v := (&job{t, "sim"}).inspect(b); v.ID != third.id {
		t.Errorf("sim is %s, want %s", v.ID, third.id)
	}
}
