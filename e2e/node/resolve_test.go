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

// committed moves the job and does harm when the source has committed, before any node
// hears of it; it returns the move. The cluster has faults.
func (j *job) committed(from, to *node, harm func()) (move string) {
	j.t.Helper()
	const point = "after.source.committed"
	from.plan(point + " 1 pause")
	p := spawn(j.t, 2*limit, nil, shared.migrate, "--socket", from.socket(), "move", "--force", j.id, to.name)
	from.c.must(from.awaitHit(point, p))
	harm()
	from.plan()
	files, err := filepath.Glob(filepath.Join(from.state(), "moves", "*.journal"))
	from.c.must(err)
	if len(files) != 1 {
		j.t.Fatalf("the journals are %q", files)
	}
	move = strings.TrimSuffix(filepath.Base(files[0]), ".journal")
	if on, at := from.journal(move), to.journal(move); on != "committed" || at != "prepared" {
		j.t.Fatalf("the move is %s on the source and %s on the target", on, at)
	}
	return move
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

func TestResolveTakesTheJobBackFromALostTarget(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, withFaults)
	a, b := c.two()
	j := a.oracle("--mem", "32", "--tree", "2")
	move := j.committed(a, b, func() { b.kill(); c.cut(a) })
	eventually(t, limit, func() error {
		if open := a.moves(); len(open) != 1 || open[0].State != "committed" || !strings.Contains(open[0].WaitFor, "migrate resolve "+move) {
			return fmt.Errorf("moves are %+v", open)
		}
		return nil
	})
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
	b.start() // its copy is there, and its peer cannot be asked
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

func TestResolveTakesTheCopyOfALostSource(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, withFaults)
	a, b := c.two()
	j := a.oracle("--mem", "32", "--tree", "2")
	move := j.committed(a, b, func() { a.kill(); c.cut(a) })
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
		//house:allow time.Sleep: time in which it could do what it must not
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

func TestResolveIsRefusedWhileTheNodesCanTalk(t *testing.T) {
	c := newCluster(t, 2, withFaults)
	a, b := c.two()
	j := a.oracle("--mem", "16")
	move := j.committed(a, b, b.kill)
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
