package node

import (
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/migrate-hpc/migrate/e2e/oracle"
)

func TestLogsAreExactOverTenMoves(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	home, away := c.two()
	file := filepath.Join(c.dir, "out")
	front := home.foreground("--name", "front", "-w", "/tmp", "--", shared.oracle, "--count")
	filed := home.oracleFile(file)
	j := home.named("front")
	follow := spawn(t, 2*limit, nil, shared.migrate, "--socket", home.socket(), "logs", "-f", j.id)
	here, there := home, away
	for range 10 {
		j.move(here, there)
		filed.move(here, there)
		here, there = there, here
		j.ticks(here, 5)
	}
	filed.end(here)
	if _, err := oracle.Judge(readFile(file)); err != nil {
		t.Errorf("the file named with -o: %v", err)
	}
	front.signal(syscall.SIGUSR1) // forwarded to the job, wherever it is
	eventually(t, limit, func() error {
		if len(j.judge(here).States) == 0 {
			return fmt.Errorf("SIGUSR1 was not passed on")
		}
		return nil
	})
	front.signal(syscall.SIGTERM)
	r := front.wait().want(t, 0)
	for reader, out := range map[string]string{"run in the foreground": r.out, "logs -f": follow.wait().want(t, 0).out, "logs on the other node": j.logs(away)} {
		report, err := oracle.Judge(out)
		if err != nil || !report.Bye {
			t.Errorf("what %s has seen: %v; bye %v", reader, err, report.Bye)
		}
		if out != r.out {
			t.Errorf("%s has seen other output than the others", reader)
		}
	}
}

// foreground starts a run that stays with its job.
func (n *node) foreground(args ...string) *process {
	n.c.t.Helper()
	return spawn(n.c.t, 3*limit, nil, shared.migrate, append([]string{"--socket", n.socket(), "run"}, args...)...)
}

// named waits for the job of that name.
func (n *node) named(name string) *job {
	n.c.t.Helper()
	var found *job
	eventually(n.c.t, limit, func() error {
		for _, v := range n.jobs() {
			if v.Spec.Name == name {
				found = &job{n.c.t, v.ID}
				return nil
			}
		}
		return fmt.Errorf("no job is called %s", name)
	})
	found.ready(n)
	return found
}

// oracleFile starts an oracle whose output goes to a file of the user's.
func (n *node) oracleFile(path string) *job {
	n.c.t.Helper()
	j := n.launch("-o", path, "-w", "/tmp", "--", shared.oracle, "--count")
	eventually(n.c.t, limit, func() error {
		if out := readFile(path); !strings.Contains(out, "ready\n") {
			return fmt.Errorf("not ready: %s", out)
		}
		return nil
	})
	return j
}

// end ends the job and wants status 0.
func (j *job) end(n *node) {
	j.t.Helper()
	n.migrate("kill", "-s", "TERM", j.id).want(j.t, 0)
	n.migrate("wait", j.id).want(j.t, 0)
}

func TestWaitReturnsTheExitStatusAfterMoves(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	a, b := c.two()
	front := a.foreground("--name", "seven", "--", "/bin/sh", "-c", `trap "exit 7" TERM; echo ready; while :; do sleep 0.05; done`)
	j := a.named("seven")
	killed := a.oracle()
	lasting := a.oracle("--seconds", "20", "--exit", "9")
	for _, each := range []*job{lasting, j, killed} {
		each.move(a, b)
	}
	waiting := a.spawn("wait", lasting.id)
	front.signal(syscall.SIGTERM)
	front.wait().want(t, 7)
	killed.ticks(b, 5)
	a.migrate("kill", "-s", "KILL", killed.id).want(t, 0)
	for _, n := range c.nodes {
		n.migrate("wait", j.id).want(t, 7)
		n.migrate("wait", killed.id).want(t, 128+9)
	}
	waiting.wait().want(t, 9)
	for _, n := range c.nodes {
		if v := j.inspect(n); v.Exit == nil || v.Exit.Code != 7 || v.State != "exited" {
			t.Errorf("inspect on %s: %s, %+v", n.name, v.State, v.Exit)
		}
		if v := killed.inspect(n); v.Exit == nil || v.Exit.Signal != 9 {
			t.Errorf("inspect on %s of a killed job: %s, %+v", n.name, v.State, v.Exit)
		}
	}
}
