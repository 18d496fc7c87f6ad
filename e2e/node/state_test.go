package node

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// everything makes the oracle keep all kinds of state that it knows.
var everything = []string{"--mem", "24", "--dirty", "20", "--tree", "3", "--sysv", "--mqueue", "--locks", "--deleted", "--tcp-listen", "0", "--shared", "8"}

func TestEverythingThatAJobHoldsSurvivesMovesThereAndBack(t *testing.T) {
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
			j.checksAll(here, "mem", "cow", "shared", "ring", "zombie", "fork", "signals", "timers", "sleep", "shm", "sem", "msg", "mqueue", "locks", "deleted",
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

func TestPOSIXMessageQueuesSurviveMoves(t *testing.T) {
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

func TestFilesOfABoundDirectoryStayOpen(t *testing.T) {
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

func TestAnEstablishedConnectionInsideAJobSurvives(t *testing.T) {
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
