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

func TestTrackingReadsOnlyWrittenPages(t *testing.T) {
	c := newCluster(t)
	c.sh(c.A, "grep -q '^VmFlags:.* sd' /proc/self/smaps")
	// One bit stands for a huge page, and a job that writes here and there has them all set.
	const huge = "/sys/kernel/mm/transparent_hugepage/enabled"
	was := c.sh(c.A, "sed 's/.*\\[\\(.*\\)\\].*/\\1/' "+huge+"; echo never > "+huge)
	defer c.sh(c.A, "echo "+strings.TrimSpace(was)+" > "+huge)
	j := c.oracle(c.A, root, nil, "--mem", "24", "--dirty", "1", "--check", "8")
	rounds := j.rounds(c.A, c.B)
	if len(rounds) < 2 {
		t.Errorf("rounds %v", rounds)
	}
	for i, r := range rounds {
		t.Log(r)
		if r.Tracking != "soft-dirty" {
			t.Errorf("round %d found changes by %q", r.Number, r.Tracking)
		}
		if i > 0 && r.Looked > rounds[0].Looked/2 {
			t.Errorf("round %d looked at %d bytes, the first at %d", r.Number, r.Looked, rounds[0].Looked)
		}
	}
	j.checked(c.B, "mem")
	j.finish(c.B)
}

// rounds moves the job, has every page compared on both sides, and tells how the
// rounds went.
func (j *job) rounds(from, to *Node) []round {
	j.c.t.Helper()
	out := j.c.must(from, j.who, j.moving(to, "--json", "--verify")...)
	for _, e := range decode[told](j.c.t, out) {
		if e.Done != nil && len(e.Done.Rounds) > 0 {
			return e.Done.Rounds
		}
	}
	j.c.t.Fatalf("no rounds in %s", tail(strings.TrimSpace(out)))
	return nil
}
