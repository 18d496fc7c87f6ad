package node

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// atOnce is how many moves of a node go on at a time; the agent's limit.
const atOnce = 4

// manyJobs is how many jobs are moved at once; MIGRATE_LOAD asks for more.
func manyJobs(t *testing.T) int {
	t.Helper()
	want := os.Getenv("MIGRATE_LOAD")
	if want == "" {
		return 10
	}
	n, err := strconv.Atoi(want)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestQueueMovesAllJobsInTurn(t *testing.T) {
	c := newCluster(t, 2)
	a, b := c.two()
	jobs := make([]*job, manyJobs(t))
	for i := range jobs {
		jobs[i] = a.launch("-w", "/tmp", "--", shared.oracle, "--count", "--mem", "2")
	}
	for _, j := range jobs {
		j.ready(a)
	}
	files := openFiles(a) + openFiles(b)
	moves := make([]*process, len(jobs))
	for i, j := range jobs {
		moves[i] = spawn(t, time.Duration(len(jobs))*limit, nil, shared.migrate, "--socket", a.socket(), "move", "--stop-copy", "--verify", "--json", j.id, b.name)
		eventually(t, limit, func() error { // the next one comes after this one
			if moves[i].out.String() == "" {
				return errors.New("a move says nothing")
			}
			return nil
		})
	}
	var stays []stay
	for _, p := range moves {
		stays = append(stays, stayOf(t, p.wait().want(t, 0).out))
	}
	fair(t, stays)
	for _, j := range jobs {
		j.runsOn(b)
		j.ticks(b, 5)
	}
	for _, n := range c.nodes {
		if peak := peakMemory(t, n.agent.cmd.Process.Pid); peak > 256<<20 {
			t.Errorf("the agent of %s took %d MiB", n.name, peak>>20)
		}
		if err := n.settled(); err != nil {
			t.Error(err)
		}
	}
	eventually(t, limit, func() error {
		if now := openFiles(a) + openFiles(b); now > files+atOnce {
			return fmt.Errorf("the agents had %d files open, and %d after all moves", files, now)
		}
		return nil
	})
	for _, j := range jobs {
		j.finish(b)
	}
}

// stay is a move's time in the queue and at work.
type stay struct {
	began, ended time.Time
	told         []string // in the queue
}

func stayOf(t *testing.T, out string) stay {
	t.Helper()
	events := decodeEvents(t, out)
	s := stay{ended: events[len(events)-1].At}
	for _, e := range events {
		if e.Phase != "queue" && s.began.IsZero() {
			s.began = e.At
		}
		if e.Phase == "queue" && !slices.Contains(s.told, e.Note) {
			s.told = append(s.told, e.Note)
		}
	}
	return s
}

// fair wants no more moves at a time than allowed, and first come, first served;
// the moves are given in the order in which they came.
func fair(t *testing.T, stays []stay) {
	t.Helper()
	for _, s := range stays {
		going := 0
		for _, other := range stays {
			if !other.began.After(s.began) && other.ended.After(s.began) {
				going++
			}
		}
		if going > atOnce {
			t.Errorf("%d moves went on at a time", going)
		}
		if len(s.told) > 0 && !strings.HasPrefix(s.told[0], "waiting for ") {
			t.Errorf("in the queue it says %q", s.told)
		}
	}
	waited := slices.DeleteFunc(stays, func(s stay) bool { return s.told == nil })
	if len(waited) == 0 {
		t.Error("no move had to wait: nothing was tested")
	}
	if !slices.IsSortedFunc(waited, func(x, y stay) int { return x.began.Compare(y.began) }) {
		t.Errorf("who came first was not served first: %+v", waited)
	}
}

func openFiles(n *node) int {
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", n.agent.cmd.Process.Pid))
	n.c.must(err)
	return len(entries)
}

// peakMemory is the most that a process ever had in memory, in bytes.
func peakMemory(t *testing.T, pid int) int64 {
	t.Helper()
	for line := range strings.Lines(readFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n << 10
		}
	}
	t.Fatalf("process %d has no peak", pid)
	return 0
}
