package node

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// The limits are long enough for the stops on a busy machine, so that the calls are interrupted. None may
// end early by the job's clock, or with EINTR.
func TestWaitingCallsGoOnAfterAStop(t *testing.T) {
	c := newCluster(t, 2, withFaults)
	a, b := c.two()
	stops := []struct {
		name string
		ends *node
		do   func(j *job)
	}{
		{"move", b, func(j *job) { j.move(a, b) }},
		{"two moves", a, func(j *job) { j.move(a, b); j.move(b, a) }},
		{"checkpoint that leaves it running", a, func(j *job) {
			a.migrate("checkpoint", "--leave-running", j.id, filepath.Join(t.TempDir(), "saved")).want(t, 0)
		}},
		{"move that is given up after the dump", a, func(j *job) {
			a.plan("dump.ended 1 eio")
			a.migrate("move", "--force", j.id, b.name).want(t, 4)
			a.amend()
		}},
	}
	var jobs []*job
	for i := range 2 * len(stops) {
		args := []string{"-w", "/", "--", shared.calls, "30"}
		if i%2 == 1 {
			args = append([]string{"--user-ns"}, args...)
		}
		jobs = append(jobs, a.launch(args...))
	}
	for i, j := range jobs {
		j.ready(a)
		stops[i/2].do(j)
	}
	for i, j := range jobs { // all wait at the same time
		stop := stops[i/2]
		stop.ends.migrate("wait", j.id).want(t, 0)
		out := j.logs(stop.ends)
		if n := strings.Count(out, " ok\n"); n != 15 || strings.Contains(out, "wrong") || !strings.HasSuffix(out, "done\n") {
			t.Errorf("%s, user namespace %v: %d calls went on:\n%s%s", stop.name, i%2 == 1, n, out, j.stderr(stop.ends))
		}
	}
}

// A limit that would begin anew would be as it was.
func TestACallThatGoesOnHasTheRestOfItsLimit(t *testing.T) {
	c := newCluster(t, 2)
	a, b := c.two()
	j := a.launch("-w", "/", "--", shared.calls, "1000")
	j.ready(a)
	j.move(a, b)
	out := b.migrate("exec", j.id, "--", "sh", "-c", "cd /proc/1/task; for t in *; do echo $(cat $t/comm $t/syscall); done").want(t, 0).out
	found := 0
	for line := range strings.Lines(out) {
		f := strings.Fields(line) // its name, the number, six arguments, two pointers
		if len(f) != 10 {
			continue
		}
		arg := ""
		switch f[1] {
		case "7": // poll
			arg = f[4]
		case "232": // epoll_wait
			arg = f[5]
		}
		var left int64
		if _, err := fmt.Sscanf(arg, "0x%x", &left); err != nil || left == 0xffffffff { // it has none
			continue
		}
		found++
		if left <= 0 || left >= 1000_000 {
			t.Errorf("it goes on with %d ms of 1000 s: %s", left, line)
		}
	}
	if found != 5 { // poll, epoll_wait, and three sleeps
		t.Errorf("%d calls have the rest of their limit in a register:\n%s", found, out)
	}
}
