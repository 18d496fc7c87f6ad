package node

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/migrate-hpc/migrate/e2e/oracle"
	"github.com/migrate-hpc/migrate/testenv"
)

func TestMoveKeepsMemoryThatIsHardToTrack(t *testing.T) {
	c := newCluster(t, 2)
	a, b := c.two()
	c.run("userfaultfd", func(t *testing.T) { // the first one, while the target knows no job
		j := a.breaker("userfaultfd")
		j.refused(a, b, "userfaultfd", "run the program without userfaultfd")
		j.foundRight(a)
		j.endsWhole(a)
	})
	for _, role := range []string{"random", "aligned", "forks", "remap", "discard", "huge", "threads"} {
		c.run(role, func(t *testing.T) {
			j := a.breaker(role)
			if role == "huge" {
				j.hasHugePages(a)
			}
			events := j.moveBy(a, b, 0, "--max-downtime", "1ms", "--force") // rounds go on as long as they gain anything
			if n := whileFrozen(t, events); n > 24<<20 {
				t.Errorf("%d bytes crossed while the job was frozen", n)
			}
			done := last(events).Done
			if done.Mode != "pre-copy" || len(done.Rounds) < 2 {
				t.Errorf("mode %s, rounds %+v", done.Mode, done.Rounds)
			}
			j.foundRight(b)
			done = last(j.moveBy(b, a, 0, "--stop-copy", "--post-copy", "--bandwidth", "30M")).Done // it runs while memory is missing
			t.Logf("%d bytes pulled, downtime %v", done.Pulled, done.Downtime)
			if done.Mode != "post-copy" || done.Pulled < 8<<20 {
				t.Errorf("mode %s, %d bytes pulled", done.Mode, done.Pulled)
			}
			j.foundRight(a)
			at := a
			if role == "forks" || role == "huge" {
				j.moveBy(a, b, 0, "--eager", "--force")
				at = b
				j.foundRight(b)
			}
			j.endsWhole(at)
		})
	}
}

// breaker starts one and waits until it has looked at all of its memory.
func (n *node) breaker(role string) *job {
	n.c.t.Helper()
	j := n.launch("-w", "/tmp", "--", shared.breaker, role)
	j.ready(n)
	j.foundRight(n)
	return j
}

// unbroken reads the breaker's output and wants it to tell of no damage.
func (j *job) unbroken(n *node) oracle.BreakerReport {
	j.t.Helper()
	r, err := oracle.JudgeBreaker(j.logs(n))
	if err != nil {
		j.t.Fatalf("the job is damaged: %v\nstderr: %s\n%s", err, j.stderr(n), n.migrate("inspect", j.id, "--json").out)
	}
	return r
}

// foundRight waits until the breaker, seen from n, has looked at all of its memory
// from the first to the last page at least twice from now.
func (j *job) foundRight(n *node) {
	j.t.Helper()
	first := j.unbroken(n).Oks
	eventually(j.t, limit, func() error {
		if now := j.unbroken(n).Oks; now < first+3 {
			return fmt.Errorf("from ok %d it came to ok %d only, stderr %q; %s", first, now, j.stderr(n), n.migrate("inspect", j.id, "--json").out)
		}
		return nil
	})
}

// endsWhole ends the breaker, which looks at all of its memory once more.
func (j *job) endsWhole(n *node) {
	j.t.Helper()
	n.migrate("kill", "-s", "TERM", j.id).want(j.t, 0)
	if r := n.migrate("wait", j.id); r.code != 0 {
		j.t.Errorf("it ended with %d, and said %s", r.code, clip(j.logs(n)))
	}
	if r := j.unbroken(n); !r.Bye {
		j.t.Errorf("the output does not end with bye: %+v", r)
	}
	if s := j.stderr(n); s != "" {
		j.t.Errorf("stderr: %s", s)
	}
}

// hasHugePages wants the job to have some; a kernel that was told to make none
// skips the test, but where CI is set.
func (j *job) hasHugePages(n *node) {
	j.t.Helper()
	if mode, err := os.ReadFile("/sys/kernel/mm/transparent_hugepage/enabled"); err != nil || strings.Contains(string(mode), "[never]") {
		testenv.Missing(j.t, "this kernel makes no huge pages: %s%v", mode, err)
	}
	var kib int64
	for line := range strings.Lines(readFile(fmt.Sprintf("/proc/%d/smaps_rollup", j.inspect(n).Pids[0].Host))) {
		if rest, ok := strings.CutPrefix(line, "AnonHugePages:"); ok {
			kib, _ = strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
		}
	}
	if kib < 2048 {
		j.t.Errorf("%d KiB of huge pages: nothing would be tested", kib)
	}
}
