package node

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestMovedJobIsAnsweredForByTheNodeItLeft(t *testing.T) {
	c := newCluster(t, 3)
	first, last := c.nodes[0], c.nodes[2]
	j := first.oracleIn([]string{"--name", "sim", "--hostname", "inside"})
	j.move(first, c.nodes[1])
	j.move(first, last) // asked of the first node, which passes it on
	first.migrate("ps").want(t, 0).lists(t, j.id, "sim", "moved")
	for _, n := range c.nodes {
		for _, ref := range []string{j.id, "sim"} {
			if v := (&job{t, ref}).inspect(n); v.Node != last.name || v.State != "running" || v.ID != j.id {
				t.Errorf("%s says of %s: %s on %s", n.name, ref, v.State, v.Node)
			}
		}
		if got := n.migrate("exec", j.id, "hostname").want(t, 0).out; got != "inside\n" {
			t.Errorf("exec by way of %s: %q", n.name, got)
		}
		n.migrate("exec", j.id, "sh", "-c", "exit 9").want(t, 9)
		n.migrate("exec", j.id, "no-such-command").want(t, 1).says(t, "no-such-command")
		j.state(n)
		j.judge(n)
	}
	r := command(t, "sh", "-c", `printf 'there and back' | exec "$0" --socket "$1" exec "$2" cat`, shared.migrate, first.socket(), j.id).want(t, 0)
	if r.out != "there and back" {
		t.Errorf("exec passes stdin and stdout on: %v", r)
	}
	if stays := j.inspect(first).Stays; len(stays) != 3 || stays[0].Node != first.name || stays[2].Node != last.name {
		t.Errorf("stays: %+v", stays)
	}
	waiting := first.spawn("wait", j.id)
	first.migrate("rm", j.id).want(t, 1).says(t, "running", "rm -f")
	first.migrate("kill", "sim").want(t, 0)
	if r := waiting.wait().want(t, 0); strings.TrimSpace(r.out) != "0" {
		t.Errorf("wait prints %q", r.out)
	}
	if r := j.judge(first); !r.Bye {
		t.Error("the end of the output is missing on the node where the job started")
	}
	first.migrate("rm", j.id).want(t, 0)
	for _, n := range c.nodes {
		for _, v := range n.jobs() {
			t.Errorf("after rm %s still knows of %s, %s", n.name, v.ID, v.State)
		}
		n.migrate("inspect", j.id).want(t, 1).says(t, j.id, "no job")
	}
}

// lists wants standard output to hold all these words.
func (r result) lists(t *testing.T, words ...string) result {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(r.out, w) {
			t.Errorf("the output lacks %q: %v", w, r)
		}
	}
	return r
}

func TestCgroupLimitsHoldAfterMoves(t *testing.T) {
	c := newCluster(t, 2)
	a, b := c.two()
	c.run("memory", func(t *testing.T) {
		j := a.launch("--memory", "64M", "--", "/bin/sh", "-c", "trap '' TERM; echo ready; read x < /tmp/none; while :; do sleep 0.1; done")
		j.ready(a)
		j.move(a, b)
		r := b.migrate("exec", j.id, shared.helper, "hog")
		if r.code != 137 {
			t.Errorf("a command that takes all memory ended with %d after the move: %v", r.code, r)
		}
		if took := strings.Count(r.out, "\n"); took > 70 {
			t.Errorf("it got %d MiB of 64", took)
		}
	})
	c.run("processes", func(t *testing.T) {
		j := a.oracleIn([]string{"--pids-limit", "24", "--init"})
		const forks = `for i in $(seq 40); do sleep 0.5 & done; wait`
		for _, n := range c.nodes {
			if r := n.migrate("exec", j.id, "sh", "-c", forks); !strings.Contains(strings.ToLower(r.err), "fork") {
				t.Errorf("40 processes fit into a job of 24 on %s: %v", n.name, r)
			}
			if n == a {
				j.move(a, b)
			}
		}
		j.finish(b)
	})
	c.run("processor", func(t *testing.T) {
		j := a.launch("--cpus", "0.2", "--", "/bin/sh", "-c", "echo ready; while :; do :; done")
		j.ready(a)
		j.move(a, b)
		began := time.Now()
		before := j.inspect(b).CPU
		eventually(t, limit, func() error { return after(began, 2*time.Second) })
		used, took := j.inspect(b).CPU-before, time.Since(began)
		if share := used.Seconds() / took.Seconds(); share > 0.35 || share < 0.05 {
			t.Errorf("the job has used %.2f of a processor after the move, and may use 0.2", share)
		}
	})
	c.run("ulimit", func(t *testing.T) {
		j := a.launch("--ulimit", "nofile=77:99", "--", "/bin/sh", "-c", "echo ready; while :; do ulimit -n; ulimit -Hn; sleep 0.1; done")
		j.ready(a)
		j.move(a, b)
		eventually(t, limit, func() error {
			out := j.logs(b)
			if strings.Count(out, "77\n99\n") < 3 {
				return fmt.Errorf("limits in the job: %s", clip(out))
			}
			return nil
		})
	})
}

func after(began time.Time, d time.Duration) error {
	if left := d - time.Since(began); left > 0 {
		return fmt.Errorf("%v left", left)
	}
	return nil
}
