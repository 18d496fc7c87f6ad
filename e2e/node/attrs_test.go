package node

import (
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// attributes starts the helper with attributes of these names.
func (n *node) attributes(user string, names ...string) *job {
	n.c.t.Helper()
	args := append([]string{"--", shared.helper, "attrs"}, names...)
	if user == "0" {
		return n.launch(args...)
	}
	args = append([]string{"--reuid", user, "--regid", user, "--clear-groups", shared.migrate, "--socket", n.socket(), "run", "-d", "--user-ns", "-w", "/tmp"}, args...)
	return &job{n.c.t, strings.TrimSpace(command(n.c.t, "setpriv", args...).want(n.c.t, 0).out)}
}

// attributeState is what the helper tells of its attributes, asked for the i-th time from 0 on.
func (j *job) attributeState(n *node, i int) string {
	j.t.Helper()
	if i > 0 {
		n.migrate("kill", "-s", "USR1", j.id).want(j.t, 0)
	}
	var state string
	eventually(j.t, limit, func() error {
		for line := range strings.Lines(j.logs(n)) {
			if rest, ok := strings.CutPrefix(line, fmt.Sprintf("STATE %d ", i)); ok {
				state = rest
				return nil
			}
		}
		return fmt.Errorf("no answer: %s", j.stderr(n))
	})
	return state
}

func needTwoProcessors(t *testing.T) {
	t.Helper()
	if runtime.NumCPU() < 2 {
		t.Skip("there is one processor only: nothing can be bound")
	}
}

func TestThreadsKeepWhatTheyHaveAskedTheKernelFor(t *testing.T) {
	needTwoProcessors(t)
	t.Parallel()
	c := newCluster(t, 2)
	a, b := c.two()
	for name, user := range kindsOfJobs {
		c.run(name, func(t *testing.T) {
			j := a.attributes(user, "cpu", "ioprio", "slack", "filter", "personality", "mce", "mempolicy", "merge", "mbind", "onfault", "mseal")
			was := j.attributeState(a, 0)
			j.move(a, b)
			if is := j.attributeState(b, 1); is != was {
				t.Errorf("after a move: %s\nbefore: %s", is, was)
			}
			saved := filepath.Join(c.dir, j.id)
			b.migrate("checkpoint", j.id, saved).want(t, 0)
			a.migrate("restore", "-d", saved).want(t, 0)
			if is := j.attributeState(a, 2); is != was {
				t.Errorf("after a restore: %s\nbefore: %s", is, was)
			}
			j.remove(c)
		})
	}
}

func TestBoundThreadsAreKeptMappedOrDroppedAsAskedFor(t *testing.T) {
	needTwoProcessors(t)
	t.Parallel()
	c := newCluster(t, 3, func(c *cluster) { c.nodes[1].cover = []string{`set -- taskset -c 1 "$@"`} })
	all, one, other := c.nodes[0], c.nodes[1], c.nodes[2]
	j := all.attributes("0", "cpu")
	was := j.attributeState(all, 0)

	r := all.migrate("move", "--force", "--affinity", "keep", j.id, one.name)
	if r.code != 3 || !strings.Contains(r.err, "cpus-missing") || !strings.Contains(r.err, "processors 0-1") {
		t.Errorf("a node without the processors: %v", r)
	}
	if is := j.attributeState(all, 1); is != was {
		t.Errorf("after a refusal: %s\nbefore: %s", is, was)
	}
	told := func(done event, want string) {
		t.Helper()
		if r := all.migrate("inspect", done.Move); !strings.Contains(r.out, want) {
			t.Errorf("the record of the move does not say %q: %v", want, r)
		}
	}
	told(j.move(all, other, "--affinity", "keep"), "threads stay bound to processors 0-1")
	if is := j.attributeState(other, 2); is != was {
		t.Errorf("kept: %s\nbefore: %s", is, was)
	}
	told(j.move(other, all, "--affinity", "drop"), "may run on all that the node gives")
	if is := j.attributeState(all, 3); strings.Count(is, "cpu=3") != 3 {
		t.Errorf("dropped: %s", is)
	}

	j = all.attributes("0", "cpu")
	j.attributeState(all, 0)
	told(j.move(all, one), "threads bound to processors 0-1 are bound to 1")
	if is := j.attributeState(one, 1); strings.Count(is, "cpu=2") != 3 {
		t.Errorf("mapped: %s", is)
	}
	if r := all.migrate("move", "--affinity", "some", j.id, one.name); r.code != 2 || !strings.Contains(r.err, "--affinity") {
		t.Errorf("a mode that is none: %v", r)
	}
}
