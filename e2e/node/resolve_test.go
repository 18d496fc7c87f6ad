package node

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// journal is the newest state that a node's journal has of a move, "" for none.
func (n *node) journal(move string) string {
	data, err := os.ReadFile(filepath.Join(n.state(), "moves", move+".journal"))
	if err != nil {
		return ""
	}
	var line struct {
		Record struct {
			State string `json:"state"`
		} `json:"record"`
	}
	for text := range strings.Lines(string(data)) {
		_ = json.Unmarshal([]byte(text), &line) // a last line that was cut short does not count
	}
	return line.Record.State
}

// interruptedAt moves the job until the harm, done when the commit begins, has left
// the move in one of these states on the two nodes; it returns the move. What comes
// out otherwise is put right and tried again.
func (j *job) interruptedAt(from, to *node, harm, heal func(), states ...string) string {
	j.t.Helper()
	c := from.c
	for range 12 {
		before := map[string]bool{}
		for _, m := range from.moves("--all") {
			before[m.Move] = true
		}
		p := j.begin(from, to, "commit", harm)
		move := ""
		eventually(j.t, 10*time.Second, func() error {
			files, _ := filepath.Glob(filepath.Join(from.state(), "moves", "*.journal"))
			for _, f := range files {
				if m := strings.TrimSuffix(filepath.Base(f), ".journal"); !before[m] {
					move = m
				}
			}
			if move == "" {
				return fmt.Errorf("no move has begun")
			}
			return nil
		})
		eventually(j.t, 10*time.Second, func() error {
			if s := from.journal(move); s == "frozen" && from.alive() {
				return fmt.Errorf("the source is still %s", s)
			}
			return nil
		})
		got := from.journal(move) + " " + to.journal(move)
		for _, want := range states {
			if got == want {
				return move
			}
		}
		j.t.Logf("the move was left %s; once more", got)
		heal()
		p.wait()
		if on := j.settled(c); on != from {
			j.move(on, from)
		}
	}
	j.t.Fatalf("a move was never left as %v", states)
	return ""
}

// begin starts a move and does harm as soon as the phase is told.
func (j *job) begin(from, to *node, phase string, harm func()) *process {
	done := false
	return spawn(j.t, 2*limit, func(line string) {
		var e event
		if !done && json.Unmarshal([]byte(line), &e) == nil && e.Phase == phase {
			done = true
			harm()
		}
	}, shared.migrate, "--socket", from.socket(), "move", j.id, to.name, "--json")
}

// alive tells whether the node's agent runs.
func (n *node) alive() bool {
	select {
	case <-n.agent.ended:
		return false
	default:
		return true
	}
}

// copyOf is the cgroup of the job on this node, "" if there is none.
func (n *node) copyOf(j *job) string {
	for _, dir := range n.cgroups() {
		if strings.HasSuffix(dir, j.id) && strings.Contains(dir, n.name) {
			return dir
		}
	}
	return ""
}

func TestAnOperatorTakesTheJobBackFromATargetThatIsGone(t *testing.T) {
	c := newCluster(t, 2)
	a, b := c.two()
	j := a.oracle("--mem", "32", "--tree", "2")
	move := j.interruptedAt(a, b,
		func() { _ = b.agent.cmd.Process.Kill(); c.cut(a) },
		func() { b.kill(); c.join(a); b.start() },
		"committed prepared", "committed committed")
	<-b.agent.ended
	t.Logf("left: %s on the source, %s on the target", a.journal(move), b.journal(move))
	open := a.moves()
	if len(open) != 1 || open[0].State != "committed" || !strings.Contains(open[0].WaitFor, "migrate resolve "+move) {
		t.Fatalf("moves are %+v", open)
	}
	a.as("12345", "resolve", move, "--take", "--yes").want(t, 1).says(t, "only root")
	a.migrate("resolve", move, "--take").want(t, 130).says(t, "nothing was done", "--yes", b.name)
	r := a.migrate("resolve", move, "--take", "--yes").want(t, 0)
	if !strings.Contains(r.out, "on "+a.name) {
		t.Errorf("said %v", r)
	}
	j.ticks(a, 20)
	if left := a.moves(); len(left) != 1 || !strings.Contains(left[0].WaitFor, b.name) {
		t.Errorf("the target has not been told, and moves are %+v", left)
	}
	a.kill() // it must not forget that it has to tell
	a.start()
	b.start() // its copy is there, and nobody to ask
	if b.copyOf(j) == "" {
		t.Error("the target dropped its copy without having asked")
	}
	j.ticks(a, 20)
	c.join(a)
	eventually(t, limit, func() error {
		if dir := b.copyOf(j); dir != "" || b.journal(move) != "dropped" {
			return fmt.Errorf("the copy on the target: %q, %s", dir, b.journal(move))
		}
		if left := a.moves(); len(left) != 0 {
			return fmt.Errorf("unfinished: %+v", left)
		}
		return nil
	})
	for _, v := range b.jobs() {
		if v.ID == j.id && v.State != "moved" {
			t.Errorf("on the target the job is %s", v.State)
		}
	}
	j.ticks(a, 20)
	j.move(a, b) // nothing of it stands in the way
	j.runsOn(b)
	j.finish(b)
}

func TestAnOperatorTakesTheCopyOfASourceThatIsGone(t *testing.T) {
	c := newCluster(t, 2)
	a, b := c.two()
	j := a.oracle("--mem", "32", "--tree", "2")
	move := j.interruptedAt(a, b,
		func() { _ = a.agent.cmd.Process.Kill(); c.cut(a) },
		func() { a.kill(); c.join(a); a.start() },
		"frozen prepared", "committed prepared")
	<-a.agent.ended
	t.Logf("left: %s on the source", a.journal(move))
	eventually(t, limit, func() error {
		if open := b.moves(); len(open) != 1 || open[0].State != "prepared" || !strings.Contains(open[0].WaitFor, "migrate resolve "+move) {
			return fmt.Errorf("moves are %+v", open)
		}
		return nil
	})
	b.migrate("resolve", move, "--take", "--yes").want(t, 0)
	j.ticks(b, 20)
	a.start()
	for range 20 { // as long as it cannot ask, it does nothing
		data, err := os.ReadFile(filepath.Join(a.state(), "moves", move+".journal"))
		c.must(err)
		if strings.Contains(string(data), `"aborted"`) {
			t.Fatalf("the source gave the move up and thawed its copy:\n%s", data)
		}
		time.Sleep(50 * time.Millisecond)
	}
	for _, v := range a.jobs() {
		if v.ID == j.id && v.State != "frozen" {
			t.Errorf("on the source the job is %s", v.State)
		}
	}
	j.ticks(b, 20)
	c.join(a)
	eventually(t, limit, func() error {
		if dir := a.copyOf(j); dir != "" || a.journal(move) != "released" {
			return fmt.Errorf("the copy on the source: %q, %s", dir, a.journal(move))
		}
		if left := b.moves(); len(left) != 0 {
			return fmt.Errorf("unfinished: %+v", left)
		}
		return nil
	})
	j.runsOn(b)
	j.ticks(b, 20)
	j.move(b, a)
	j.finish(a)
}

func TestADecisionIsRefusedAsLongAsTheNodesCanTalk(t *testing.T) {
	c := newCluster(t, 2)
	a, b := c.two()
	j := a.oracle("--mem", "16")
	move := j.interruptedAt(a, b,
		func() { _ = b.agent.cmd.Process.Kill() },
		func() { b.kill(); b.start() },
		"committed prepared", "committed committed")
	<-b.agent.ended
	b.start()
	for _, n := range c.nodes {
		for _, word := range []string{"--take", "--drop"} {
			n.migrate("resolve", move, word, "--yes").want(t, 3).says(t, move, "the job:")
		}
	}
	a.migrate("resolve", "mffffffffffffffff", "--take", "--yes").want(t, 1).says(t, "no move")
	j.runsOn(b)
	j.finish(b)
}
