package vm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/migrate-hpc/migrate/e2e/vm/guest/api"
)

// Where a job may be when a fault is over.
const (
	stayed = "runs on the source"
	moved  = "runs on the target"
	lost   = "lost" // its memory was in the machine that lost power, and nowhere else
)

// A phase is told when it begins, so what is there to lose is what the phase before
// it has made.
var faultPhases = []struct{ event, made string }{
	{"warm-up", "running"}, {"dump", "frozen"}, {"residue", "dumped"}, {"commit", "parked"}, {"resume", "committed"}, {"release", "resumed"},
}

// allowed tells where the job may be after a fault. A power cut takes a job with it
// whose only copy that can still run is in the machine; that no software can mend,
// and a checkpoint is for. At the phase "commit" the record may be on the disk
// already or not.
func allowed(fault, event string) []string {
	after := event == "resume" || event == "release"
	switch {
	case fault != "source" && fault != "target":
		return []string{stayed, moved}
	case event == "commit":
		return map[string][]string{"source": {lost, moved}, "target": {stayed, lost}}[fault]
	case fault == "source" && after:
		return []string{moved}
	case fault == "target" && !after:
		return []string{stayed}
	}
	return []string{lost}
}

func TestMoveOverACutLinkLeavesOneCopy(t *testing.T)             { strikeInEveryPhase(t, "link") }
func TestMoveWithAPowerCutOfTheSourceLeavesOneCopy(t *testing.T) { strikeInEveryPhase(t, "source") }
func TestMoveWithAPowerCutOfTheTargetLeavesOneCopy(t *testing.T) { strikeInEveryPhase(t, "target") }

func strikeInEveryPhase(t *testing.T, fault string) {
	c := newCluster(t)
	here, there := c.A, c.B
	var j *job // goes on from one fault to the next, from wherever it is
	for _, phase := range faultPhases {
		c.run("when "+phase.made, func(t *testing.T) {
			if j == nil {
				j = c.oracle(here, root, nil, "--mem", "4", "--check", "4")
			}
			switch where := j.survives(here, there, phase.event, fault); where {
			case moved:
				here, there = there, here
			case lost:
				j.clear()
				j = nil
			}
		})
		if t.Failed() {
			return // what follows would fail for the same reason
		}
	}
	if j != nil {
		j.finish(here)
	}
}

func TestMoveOutlastsAPauseOfEitherMachine(t *testing.T) {
	c := newCluster(t)
	here, there := c.A, c.B
	j := c.oracle(here, root, nil, "--mem", "4", "--check", "4")
	for _, pause := range []struct{ what, phase string }{{"pause source", "commit"}, {"pause target", "residue"}, {"pause target", "resume"}} {
		c.run(pause.what+" at "+pause.phase, func(*testing.T) {
			if j.survives(here, there, pause.phase, pause.what) == moved {
				here, there = there, here
			}
		})
	}
	j.finish(here)
}

func TestMoveAbortsWhileTheLinkStaysCut(t *testing.T) {
	c := newCluster(t)
	defer c.B.Mend()
	j := c.oracle(c.A, root, nil, "--mem", "8", "--check", "8")
	if told := j.moveWithFault(c.A, c.B, "park", "link for good"); told != 4 {
		t.Errorf("exit status %d, want 4", told)
	}
	t.Logf("the downtime was %v until its node gave up the other", j.ticks(c.A, 20).MaxRealtime)
	c.B.Mend()
	if where := j.settled(c.A, c.B); where != stayed {
		t.Errorf("the job is %q", where)
	}
	j.move(c.A, c.B)
	j.finish(c.B)
}

// survives moves the job, strikes, and returns where it is when all is settled.
func (j *job) survives(from, to *Node, phase, fault string) (where string) {
	j.c.t.Helper()
	told := j.moveWithFault(from, to, phase, fault)
	where = j.settled(from, to)
	j.c.t.Logf("%s; the command's exit status was %d", where, told)
	if !slices.Contains(allowed(fault, phase), where) {
		j.c.t.Errorf("the job is %q, want one of %q", where, allowed(fault, phase))
	}
	agrees(j.c.t, told, where)
	return where
}

// unseen is the exit status of a command whose machine has gone.
const unseen = -1

// moveWithFault strikes as soon as the phase is told, repairs the damage while the
// command still waits, and returns how the command ended.
func (j *job) moveWithFault(from, to *Node, phase, fault string) int {
	j.c.t.Helper()
	var once sync.Once
	var said strings.Builder
	repaired := make(chan error, 1)
	lines := &lineWriter{each: func(line string) {
		var e struct {
			Phase string `json:"phase"`
		}
		if json.Unmarshal([]byte(line), &e) != nil || e.Phase != phase {
			return
		}
		once.Do(func() {
			ctx := j.c.t.Context()
			err := strike(ctx, fault, from, to)
			go func() { repaired <- errors.Join(err, repair(ctx, fault, from, to)) }()
		})
	}}
	ctx, cancel := context.WithTimeout(j.c.t.Context(), limit)
	defer cancel()
	code, err := from.Stream(ctx, api.Command{Args: append([]string{Migrate}, j.moving(to, "--json")...)}, lines, &said)
	once.Do(func() {
		repaired <- errors.Join(fmt.Errorf("the move ended with %d before the phase %s: %s", code, phase, said.String()), err)
	})
	if err := <-repaired; err != nil {
		j.c.t.Fatal(err)
	}
	if err != nil {
		return unseen
	}
	return code
}

// lineWriter hands over whole lines.
type lineWriter struct {
	rest string
	each func(string)
}

func (w *lineWriter) Write(p []byte) (int, error) {
	w.rest += string(p)
	for {
		line, rest, whole := strings.Cut(w.rest, "\n")
		if !whole {
			return len(p), nil
		}
		w.rest = rest
		w.each(line)
	}
}

// settled waits until the nodes agree on where the job is and the kernels have what
// they say.
func (j *job) settled(from, to *Node) (where string) {
	j.c.t.Helper()
	j.c.eventually(func() (err error) {
		where, err = j.whereabouts(from, to)
		return err
	})
	if where == lost {
		return where
	}
	on := map[string]*Node{stayed: from, moved: to}[where]
	j.ticks(on, 20)
	if again, err := j.whereabouts(from, to); again != where || err != nil {
		j.c.t.Errorf("the job was %q and is %q: %v", where, again, err)
	}
	return where
}

func (j *job) whereabouts(from, to *Node) (string, error) {
	j.c.t.Helper()
	states, copies := map[*Node]string{}, map[*Node]bool{}
	for _, n := range []*Node{from, to} {
		for _, v := range decode[view](j.c.t, j.c.must(n, root, "ps", "-a", "--json")) {
			if v.ID == j.id {
				states[n] = v.State
			}
		}
		// A cgroup that is removed meanwhile has no tasks.
		copies[n] = strings.TrimSpace(j.c.sh(n, "find /sys/fs/cgroup -path '*"+j.id+"*' -name cgroup.procs -exec cat {} ';' 2>/dev/null; true")) != ""
	}
	got := fmt.Sprintf("source: %q, target: %q, tasks there: %v, %v", states[from], states[to], copies[from], copies[to])
	switch {
	case states[from] == "running" && copies[from] && !copies[to] && states[to] != "running":
		return stayed, nil
	case states[to] == "running" && copies[to] && !copies[from] && states[from] == "moved":
		return moved, nil
	case !copies[from] && !copies[to] && states[from] != "running" && states[to] != "running" && (states[from] == "lost" || states[to] == "lost"):
		return lost, nil
	}
	return "", fmt.Errorf("not settled: %s", got)
}

// agrees compares what the user was told with where the job is.
func agrees(t *testing.T, code int, where string) {
	t.Helper()
	switch code {
	case unseen, 5: // nothing was promised
	case 0, 6:
		if where == stayed {
			t.Errorf("exit status %d, and the job %s", code, where)
		}
	case 1, 4:
		if where != stayed {
			t.Errorf("exit status %d, and the job is %q", code, where)
		}
	default:
		t.Errorf("exit status %d", code)
	}
}

// clear removes the job from every node that knows it.
func (j *job) clear() {
	j.c.t.Helper()
	for _, n := range j.c.Nodes() {
		j.c.migrate(n, root, "rm", "-f", j.id) // the other node may have done it for both
		if out := j.c.must(n, root, "ps", "-a", "--json"); strings.Contains(out, j.id) {
			j.c.t.Errorf("%s still knows the job after rm: %s", n.Name, out)
		}
	}
}
