package node

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// everything makes the oracle keep all kinds of state that it knows.
var everything = []string{"--mem", "24", "--dirty", "20", "--tree", "3", "--sysv", "--mqueue", "--locks", "--deleted", "--socket", "--tcp-listen", "0", "--shared", "8"}

func TestMoveKeepsAllStateOfAJob(t *testing.T) {
	c := newCluster(t, 2)
	for name, flags := range map[string][]string{"without a user namespace": nil, "with a user namespace": {"--user-ns"}} {
		c.run(name, func(t *testing.T) {
			here, there := c.two()
			j := here.oracleIn(flags, everything...)
			checked := j.state(here).Checks
			for range 4 {
				j.move(here, there)
				here, there = there, here
				j.ticks(here, 30)
				now := j.state(here).Checks
				for kind, n := range now {
					if kind != "tcp" && n < checked[kind] {
						t.Errorf("%s was checked %d times, and then %d times", kind, checked[kind], n)
					}
				}
				checked = now
			}
			j.checksAll(here, "mem", "cow", "shared", "ring", "zombie", "fork", "signals", "timers", "sleep", "shm", "sem", "msg", "mqueue", "locks", "deleted", "socket",
				"devshm", "segment", "memfd", "anon", "unlinked")
			j.finish(here)
		})
	}
}

// checksAll waits until the oracle has checked every one of these kinds.
func (j *job) checksAll(n *node, kinds ...string) {
	j.t.Helper()
	eventually(j.t, limit, func() error {
		checked := j.state(n).Checks
		for _, kind := range kinds {
			if checked[kind] == 0 {
				return fmt.Errorf("%s was never checked", kind)
			}
		}
		return nil
	})
}

func TestMqueueMessagesSurviveMoves(t *testing.T) {
	c := newCluster(t, 2)
	here, there := c.two()
	j := here.launch("--", shared.helper, "queue")
	looked := func(times int) { // at the messages
		t.Helper()
		eventually(t, limit, func() error {
			if got := j.lastNumber(here); got != times {
				return fmt.Errorf("the messages were looked at %d times, want %d; stderr: %s", got, times, j.stderr(here))
			}
			return nil
		})
	}
	for i := range 3 {
		looked(i + 1)
		j.move(here, there)
		here, there = there, here
		here.migrate("kill", "-s", "USR1", j.id).want(t, 0)
	}
	looked(4)
	held := here.oracle("--mqueue") // keeps its queue open
	for range 2 {
		held.move(here, there)
		here, there = there, here
		held.ticks(here, 20)
	}
	held.checksAll(here, "mqueue")
	held.finish(here)
}

func TestBindFilesStayOpenAfterMoves(t *testing.T) {
	c := newCluster(t, 2)
	here, there := c.two()
	dir := filepath.Join(c.dir, "scratch")
	c.must(os.Mkdir(dir, 0o755))
	j := here.oracleIn([]string{"--bind", dir + ":/mnt"}, "--deleted", "--dir", "/mnt")
	for range 2 {
		j.move(here, there)
		here, there = there, here
		j.ticks(here, 20)
	}
	j.checksAll(here, "deleted")
	j.finish(here)
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("the moves left %v in the bound directory: %v", left, err)
	}
}

// A restore binds sockets to their names, which both nodes may see. Until the job runs
// there the names must still lead to the job that may go on where it was.
func TestSocketNamesLeadToTheCopyThatRuns(t *testing.T) {
	c := newCluster(t, 2, withFaults)
	a, b := c.two()
	dir := filepath.Join(c.dir, "shared")
	c.must(os.Mkdir(dir, 0o755))
	j := a.oracleIn([]string{"--bind", dir + ":/mnt"}, "--socket", "--dir", "/mnt")
	whole := func(n *node) {
		t.Helper()
		calls := j.state(n).Checks["socket"]
		eventually(t, limit, func() error {
			if now := j.state(n).Checks["socket"]; now < calls+5 {
				return fmt.Errorf("called %d times, before %d; stderr: %s", now, calls, j.stderr(n))
			}
			return nil
		})
	}
	whole(a)
	for _, fault := range []struct {
		point string
		spoil func(move *process)
	}{
		{"criu.post-restore", func(*process) {
			for _, pid := range b.criuOf(j) {
				c.must(unix.Kill(pid, unix.SIGKILL))
			}
		}},
		{"criu.post-restore", func(*process) { c.must(unix.Kill(b.shimOf(j.id), unix.SIGKILL)) }},
		{"shim.parked", func(move *process) {
			move.signal(unix.SIGINT)
			whole(a)
		}},
	} {
		b.plan(fault.point + " 1 pause")
		p := a.spawn("move", "--force", j.id, b.name)
		c.must(b.awaitHit(fault.point, p))
		fault.spoil(p)
		b.amend()
		if r := p.wait(); r.code == 0 {
			t.Errorf("in spite of all the job has moved: %v", r)
		}
		j.runsOn(a)
		whole(a)
	}
	j.move(a, b)
	whole(b)
	j.move(b, a)
	whole(a)
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 || left[0].Name() != "oracle.socket" {
		t.Errorf("the shared directory holds %v: %v", left, err)
	}
	j.finish(a)
}

func TestSocketConnectionsInsideAJobSurviveMoves(t *testing.T) {
	c := newCluster(t, 2)
	a, b := c.two()
	j := a.launch("--", shared.helper, "loopback")
	j.numbers(a, 20)
	j.move(a, b)
	j.numbers(b, 50)
	j.move(b, a)
	j.numbers(a, 50)
}

// numbers waits until a helper has counted on by so many, and wants its output to
// be exact.
func (j *job) numbers(n *node, more int) {
	j.t.Helper()
	first := j.lastNumber(n)
	eventually(j.t, limit, func() error {
		if now := j.lastNumber(n); now < first+more {
			return fmt.Errorf("the job has counted from %d to %d only; stderr: %s", first, now, j.stderr(n))
		}
		return nil
	})
}

func (j *job) lastNumber(n *node) int {
	j.t.Helper()
	out := j.logs(n)
	lines := strings.SplitAfter(out, "\n")
	next := 0
	for _, line := range lines {
		if !strings.HasSuffix(line, "\n") {
			break
		}
		if line != fmt.Sprintf("n %d\n", next) {
			j.t.Fatalf("line %d of the output is %q; stderr: %s", next, line, j.stderr(n))
		}
		next++
	}
	return next
}
