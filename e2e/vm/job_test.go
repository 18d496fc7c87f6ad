package vm

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/migrate-hpc/migrate/e2e/oracle"
	"github.com/migrate-hpc/migrate/e2e/vm/guest/api"
)

// limit is how long a command may take. It is for what hangs: a host that has much
// else to do makes everything slow.
const limit = 5 * time.Minute

// patience is how long nothing may change of what a test waits for.
const patience = 2 * time.Minute

// as is who runs a command.
type as uint32

const (
	root as = 0
	ada  as = 1001 // accounts of the image
	bob  as = 1002
)

// migrate runs a command of migrate on a node. Not to see its end fails the test.
func (c *cluster) migrate(n *Node, who as, args ...string) Result {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.t.Context()), limit)
	defer cancel()
	r, err := n.Run(ctx, api.Command{Args: append([]string{Migrate}, args...), UID: uint32(who), GID: uint32(who), Dir: "/"})
	if err != nil {
		c.t.Fatalf("%q on %s: %v", args, n.Name, err)
	}
	return r
}

// must wants a command to succeed and returns what it printed.
func (c *cluster) must(n *Node, who as, args ...string) string {
	c.t.Helper()
	r := c.migrate(n, who, args...)
	if r.Code != 0 {
		c.t.Fatalf("%q on %s: exit status %d: %s%s", args, n.Name, r.Code, r.Out, r.Err)
	}
	return r.Out
}

// sh runs a shell command as root.
func (c *cluster) sh(n *Node, script string) string {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.t.Context()), limit) // clean-ups run shell commands, too
	defer cancel()
	out, err := n.Exec(ctx, "sh", "-c", script)
	if err != nil {
		c.t.Fatal(err)
	}
	return out
}

// view is what the tests read of a job's JSON.
type view struct {
	ID        string        `json:"id"`
	Node      string        `json:"node"`
	State     string        `json:"state"`
	Init      int           `json:"init"`
	CgroupDir string        `json:"cgroup_dir"`
	CPU       time.Duration `json:"cpu"`
	Pids      []struct {
		Host int `json:"host"`
		Job  int `json:"job"`
	} `json:"pids"`
}

// job is a running job, as its user knows it.
type job struct {
	c   *cluster
	id  string
	who as
}

// launch starts a job in the background; args are flags, "--" and the command.
func (c *cluster) launch(n *Node, who as, args ...string) *job {
	c.t.Helper()
	return &job{c, strings.TrimSpace(c.must(n, who, append([]string{"run", "-d"}, args...)...)), who}
}

// oracle starts one that counts, with these flags of run and of its own.
func (c *cluster) oracle(n *Node, who as, run []string, flags ...string) *job {
	c.t.Helper()
	args := append([]string{"-w", "/tmp"}, run...)
	j := c.launch(n, who, append(append(args, "--", Oracle, "--count"), flags...)...)
	c.eventually(func() error {
		if out := j.logs(n); !strings.Contains(out, "ready\n") {
			return fmt.Errorf("the job is not ready: %s\n%s", tail(out), c.migrate(n, root, "logs", "--stderr", j.id).Out)
		}
		return nil
	})
	return j
}

func (j *job) logs(n *Node) string {
	j.c.t.Helper()
	return j.c.must(n, j.who, "logs", j.id)
}

func (j *job) inspect(n *Node) view {
	j.c.t.Helper()
	list := decode[view](j.c.t, j.c.must(n, j.who, "inspect", "--json", j.id))
	if len(list) != 1 {
		j.c.t.Fatalf("inspect tells of %d jobs", len(list))
	}
	return list[0]
}

// decode reads one array, or one object per line.
func decode[T any](t *testing.T, text string) (list []T) {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(text))
	if strings.HasPrefix(strings.TrimSpace(text), "[") {
		if err := dec.Decode(&list); err != nil {
			t.Fatalf("%v in %s", err, text)
		}
		return list
	}
	for {
		var v T
		err := dec.Decode(&v)
		if err == io.EOF {
			return list
		}
		if err != nil {
			t.Fatalf("%v in %s", err, text)
		}
		list = append(list, v)
	}
}

// moving is the command that moves the job. An emulated machine may be too slow for any
// forecast of the downtime, so that is taken as it comes, and for the connections that
// an agent would choose over what seems to it a long way.
func (j *job) moving(to *Node, flags ...string) []string {
	return append(append([]string{"move", "--force", "--connections", "2"}, flags...), j.id, to.Name)
}

func (j *job) move(from, to *Node) {
	j.c.t.Helper()
	began := time.Now()
	out := j.c.must(from, j.who, j.moving(to)...)
	j.c.t.Logf("%s (command took %v)", strings.TrimSpace(out), time.Since(began).Round(10*time.Millisecond))
}

// judge wants the job's output so far to be exact and tells what is in it.
func (j *job) judge(n *Node) oracle.Report {
	j.c.t.Helper()
	out := j.logs(n)
	r, err := oracle.Judge(out)
	if err != nil {
		j.c.t.Fatalf("the job is damaged: %v\nstderr: %s\nstdout ends: %s", err, j.c.must(n, root, "logs", "--stderr", j.id), tail(out))
	}
	return r
}

// ticks waits until the job, seen from n, has counted on by so many.
func (j *job) ticks(n *Node, more int64) oracle.Report {
	j.c.t.Helper()
	first := j.judge(n)
	now := first
	j.c.eventually(func() error {
		if now = j.judge(n); now.Last.Counter < first.Last.Counter+more {
			return fmt.Errorf("the job has counted from %d to %d only", first.Last.Counter, now.Last.Counter)
		}
		return nil
	})
	return now
}

// checked asks the oracle until it has checked every one of these kinds.
func (j *job) checked(n *Node, kinds ...string) oracle.State {
	j.c.t.Helper()
	var last oracle.State
	j.c.eventually(func() error {
		had := len(j.judge(n).States)
		j.c.must(n, j.who, "kill", "-s", "USR1", j.id)
		var states []oracle.State
		j.c.eventually(func() error {
			if states = j.judge(n).States; len(states) == had {
				return fmt.Errorf("no answer to SIGUSR1")
			}
			return nil
		})
		last = states[len(states)-1]
		for _, kind := range kinds {
			if last.Checks[kind] == 0 {
				return fmt.Errorf("%s was never checked: %+v", kind, last)
			}
		}
		return nil
	})
	return last
}

// finish ends the oracle in good order and wants its output to be whole.
func (j *job) finish(n *Node) oracle.Report {
	j.c.t.Helper()
	j.c.must(n, j.who, "kill", "-s", "TERM", j.id)
	j.c.must(n, j.who, "wait", j.id)
	r := j.judge(n)
	if !r.Bye || r.Cut {
		j.c.t.Errorf("the output does not end with bye: %+v", r)
	}
	if s := j.c.must(n, root, "logs", "--stderr", j.id); s != "" {
		j.c.t.Errorf("stderr: %s", s)
	}
	j.c.must(n, j.who, "rm", j.id)
	return r
}

// eventually waits until check returns nil. It gives up when nothing has changed for
// long in what check says. Half of the time the machines are left to themselves.
func (c *cluster) eventually(check func() error) {
	c.t.Helper()
	said, since := "", time.Now()
	for {
		began := time.Now()
		err := check()
		if err == nil {
			return
		}
		if err.Error() != said {
			said, since = err.Error(), time.Now()
		}
		if time.Since(since) > patience {
			c.t.Fatalf("for %v: %v", patience, err)
		}
		time.Sleep(max(50*time.Millisecond, time.Since(began)))
	}
}
