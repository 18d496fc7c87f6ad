package vm

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// told is what the tests read of an event of a move.
type told struct {
	Done *struct {
		Mode   string  `json:"mode"`
		Rounds []round `json:"rounds"`
	} `json:"done"`
}

type round struct {
	Number   int           `json:"number"`
	Took     time.Duration `json:"took"`
	Tracking string        `json:"tracking"`
	Looked   int64         `json:"looked"`
	Dirty    int64         `json:"dirty"`
}

func (r round) String() string {
	return fmt.Sprintf("round %d by %s: looked at %d KiB, %d KiB dirty, %v", r.Number, r.Tracking, r.Looked>>10, r.Dirty>>10, r.Took.Round(time.Millisecond))
}

func TestRoundsLookOnlyAtWhatSoftDirtyBitsShow(t *testing.T) {
	c := newCluster(t)
	for _, n := range c.Nodes() {
		c.sh(n, "grep -q '^VmFlags:.* sd' /proc/self/smaps") // the kernel has the bits
	}
	j := c.oracle(c.A, root, nil, "--mem", "48", "--dirty", "5", "--check", "8")
	here, there := c.A, c.B
	for range 2 {
		rounds := j.rounds(here, there)
		for _, r := range rounds {
			t.Log(r)
			if r.Tracking != "soft-dirty" {
				t.Errorf("round %d found changes by %q", r.Number, r.Tracking)
			}
		}
		if first, last := rounds[0], rounds[len(rounds)-1]; len(rounds) < 2 || last.Looked > first.Looked/2 {
			t.Errorf("%d rounds; the first looked at %d bytes, the last at %d", len(rounds), first.Looked, last.Looked)
		}
		here, there = there, here
		j.checked(here, "mem")
	}
	j.finish(here)
}

// rounds moves the job, has every page compared on both sides, and tells how the
// rounds went.
func (j *job) rounds(from, to *Node) []round {
	j.c.t.Helper()
	out := j.c.must(from, j.who, "move", "--json", "--verify", j.id, to.Name)
	for _, e := range decode[told](j.c.t, out) {
		if e.Done != nil && len(e.Done.Rounds) > 0 {
			return e.Done.Rounds
		}
	}
	j.c.t.Fatalf("no rounds in %s", tail(strings.TrimSpace(out)))
	return nil
}
