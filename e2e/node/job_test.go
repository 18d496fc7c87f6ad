package node

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/migrate-hpc/migrate/e2e/oracle"
)

// view is what the tests read of a job's JSON.
type view struct {
	ID         string            `json:"id"`
	Node       string            `json:"node"`
	State      string            `json:"state"`
	Epoch      int64             `json:"epoch"`
	Absent     int64             `json:"absent"`
	PulledFrom string            `json:"pulled_from"`
	Init       int               `json:"init"`
	Shim       int               `json:"shim"`
	Namespaces map[string]string `json:"namespaces"`
	CgroupDir  string            `json:"cgroup_dir"`
	CPU        time.Duration     `json:"cpu"`
	Pids       []struct {
		Host int `json:"host"`
		Job  int `json:"job"`
	} `json:"pids"`
	Cgroup map[string]string `json:"cgroup"`
	Spec   struct {
		Name    string `json:"name"`
		UIDBase uint32 `json:"uid_base"`
		Network struct {
			Address string `json:"address"`
			MAC     string `json:"mac"`
		} `json:"network"`
	} `json:"spec"`
	MovedTo *struct {
		Node string `json:"node"`
	} `json:"moved_to"`
	Superseded *struct {
		Node string `json:"node"`
	} `json:"superseded"`
	Exit *struct {
		Code   int `json:"code"`
		Signal int `json:"signal"`
	} `json:"exit"`
	Stays []struct {
		Node string `json:"node"`
	} `json:"stays"`
	Clocks *struct {
		Monotonic time.Duration `json:"monotonic"`
		Boottime  time.Duration `json:"boottime"`
	} `json:"clocks"`
}

// event is a line of `move --json`.
type event struct {
	At    time.Time `json:"at"`
	Move  string    `json:"move"`
	Phase string    `json:"phase"`
	Note  string    `json:"note"`
	Sent  int64     `json:"sent"`
	Round *round    `json:"round"`
	Done  *struct {
		Mode     string        `json:"mode"`
		Rounds   []round       `json:"rounds"`
		Node     string        `json:"node"`
		Downtime time.Duration `json:"downtime"`
		Took     time.Duration `json:"took"`
		Sent     int64         `json:"sent"`
		Pulled   int64         `json:"pulled"`
	} `json:"done"`
	Error *struct {
		Code     string `json:"code"`
		Message  string `json:"message"`
		Where    string `json:"where"`
		Hint     string `json:"hint"`
		Findings []struct {
			Code   string `json:"code"`
			Remedy string `json:"remedy"`
		} `json:"findings"`
	} `json:"error"`
}

// round is a warm-up round.
type round struct {
	Tracking string `json:"tracking"`
	Dirty    int64  `json:"dirty"`
	CPU      int64  `json:"cpu"`
	Reason   string `json:"reason"`
}

// job is a running job, as its user knows it.
type job struct {
	t  *testing.T
	id string
}

// launch starts a job in the background; args are flags, "--" and the command.
func (n *node) launch(args ...string) *job {
	n.c.t.Helper()
	r := n.migrate(append([]string{"run", "-d"}, args...)...).want(n.c.t, 0)
	j := &job{n.c.t, strings.TrimSpace(r.out)}
	j.t.Cleanup(func() {
		if !j.t.Failed() { // else it stays as evidence; the cluster removes it in the end
			j.remove(n.c)
		}
	})
	return j
}

// remove ends and removes the job wherever it is.
func (j *job) remove(c *cluster) {
	for _, n := range c.nodes {
		for _, v := range n.jobs() {
			if v.ID == j.id && v.State != "moved" {
				n.migrate("rm", "-f", j.id).want(j.t, 0)
			}
		}
	}
}

// oracle starts one that counts, with these flags of its own.
func (n *node) oracle(flags ...string) *job {
	n.c.t.Helper()
	return n.oracleIn(nil, flags...)
}

// oracleIn starts one with flags of run, too.
func (n *node) oracleIn(run []string, flags ...string) *job {
	n.c.t.Helper()
	args := append([]string{"-w", "/tmp"}, run...)
	args = append(args, "--", shared.oracle, "--count")
	j := n.launch(append(args, flags...)...)
	j.ready(n)
	return j
}

func (j *job) ready(n *node) {
	j.t.Helper()
	eventually(j.t, limit, func() error {
		if out := j.logs(n); !strings.Contains(out, "ready\n") {
			return fmt.Errorf("the job is not ready: %s\n%s\n%s", clip(out), j.stderr(n), n.migrate("inspect", j.id, "--json").out)
		}
		return nil
	})
}

func (j *job) logs(n *node) string {
	j.t.Helper()
	return n.migrate("logs", j.id).want(j.t, 0).out
}

func (j *job) stderr(n *node) string {
	j.t.Helper()
	return n.migrate("logs", "--stderr", j.id).out
}

func (j *job) inspect(n *node) view {
	j.t.Helper()
	r := n.migrate("inspect", j.id, "--json").want(j.t, 0)
	list, err := decodeJobs(r.out)
	if err != nil || len(list) != 1 {
		j.t.Fatalf("no job in %v: %v", r, err)
	}
	return list[0]
}

// move moves the job and wants it to succeed, however long the forecast of its
// downtime is on a machine that is busy with other things.
func (j *job) move(from, to *node, flags ...string) event {
	j.t.Helper()
	r := from.migrate(append([]string{"move", "--verify", "--force", j.id, to.name, "--json"}, flags...)...).want(j.t, 0)
	events := decodeEvents(j.t, r.out)
	last := events[len(events)-1]
	if last.Done == nil || last.Done.Node != to.name {
		j.t.Fatalf("the move did not end on %s: %v", to.name, r)
	}
	return last
}

func decodeEvents(t testing.TB, out string) []event {
	t.Helper()
	var list []event
	for dec := json.NewDecoder(strings.NewReader(out)); dec.More(); {
		var e event
		if err := dec.Decode(&e); err != nil {
			t.Fatalf("event: %v in %s", err, clip(out))
		}
		list = append(list, e)
	}
	if len(list) == 0 {
		t.Fatal("no event was printed")
	}
	return list
}

// judge wants the job's output so far to be exact and tells what is in it.
func (j *job) judge(n *node) oracle.Report {
	j.t.Helper()
	out := j.logs(n)
	r, err := oracle.Judge(out)
	if err != nil {
		j.t.Fatalf("the job is damaged: %v\nstderr: %s\nstdout ends: %s", err, j.stderr(n), clip(out))
	}
	return r
}

// ticks waits until the job, seen from n, has counted on by so many, and judges
// it.
func (j *job) ticks(n *node, more int64) oracle.Report {
	j.t.Helper()
	first := j.judge(n)
	var now oracle.Report
	eventually(j.t, limit, func() error {
		if now = j.judge(n); now.Last.Counter < first.Last.Counter+more {
			return fmt.Errorf("the job has counted from %d to %d only, and its stderr is %q; %s", first.Last.Counter, now.Last.Counter, j.stderr(n),
				n.migrate("inspect", j.id, "--json").out)
		}
		return nil
	})
	return now
}

// state asks the oracle what it has checked.
func (j *job) state(n *node) oracle.State {
	j.t.Helper()
	had := len(j.judge(n).States)
	n.migrate("kill", "-s", "USR1", j.id).want(j.t, 0)
	var r oracle.Report
	eventually(j.t, limit, func() error {
		if r = j.judge(n); len(r.States) == had {
			return fmt.Errorf("no answer to SIGUSR1")
		}
		return nil
	})
	return r.States[len(r.States)-1]
}

// runsOn wants the job to run on n and the other nodes to know that.
func (j *job) runsOn(n *node) {
	j.t.Helper()
	eventually(j.t, limit, func() error { return j.whereabouts(n) })
}

func (j *job) whereabouts(n *node) error {
	for _, each := range n.c.nodes {
		for _, v := range each.jobs() {
			if v.ID != j.id {
				continue
			}
			if each == n && v.State != "running" {
				return fmt.Errorf("job %s is %s on %s, want running%s", j.id, v.State, each.name, v.end())
			}
			if each != n && v.State != "moved" {
				return fmt.Errorf("job %s is %s on %s, and should run on %s", j.id, v.State, each.name, n.name)
			}
		}
	}
	if v := j.inspect(n); v.Node != n.name {
		return fmt.Errorf("job %s is on %s, want %s", j.id, v.Node, n.name)
	}
	return nil
}

// finish ends the oracle in good order and wants its output to be whole.
func (j *job) finish(n *node) oracle.Report {
	j.t.Helper()
	n.migrate("kill", "-s", "TERM", j.id).want(j.t, 0)
	n.migrate("wait", j.id).want(j.t, 0)
	r := j.judge(n)
	if !r.Bye || r.Cut {
		j.t.Errorf("the output does not end with bye: %+v", r)
	}
	if s := j.stderr(n); s != "" {
		j.t.Errorf("stderr: %s", s)
	}
	return r
}

// end says how the job ended, if it did.
func (v view) end() string {
	if v.Exit == nil {
		return ""
	}
	return fmt.Sprintf("; it ended with code %d, signal %d", v.Exit.Code, v.Exit.Signal)
}
