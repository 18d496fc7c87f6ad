package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// makeFaulty builds the program with fault points; see package failpoint.
var makeFaulty = sync.OnceValues(func() (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	path := filepath.Join(shared.dir, "migrate-faults")
	return path, build(ctx, path, "../../cmd/migrate", "-tags", "faults")
})

// withFaults gives every node an agent that obeys plans.
func withFaults(c *cluster) {
	c.t.Helper()
	program, err := makeFaulty()
	c.must(err)
	for _, n := range c.nodes {
		n.program = program
	}
}

func (n *node) faults() string { return filepath.Join(n.dir, "faults") }

// plan replaces the node's plan, and forgets what earlier ones did.
func (n *node) plan(lines ...string) {
	n.c.t.Helper()
	if err := os.Remove(n.faults() + ".hits"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		n.c.t.Fatal(err)
	}
	n.amend(lines...)
}

// amend replaces the plan; what paused goes on if its line is not in it any more.
func (n *node) amend(lines ...string) {
	n.c.t.Helper()
	next := n.faults() + ".next" // a point must not read half a plan
	n.c.must(os.WriteFile(next, []byte(strings.Join(lines, "\n")), 0o644))
	n.c.must(os.Rename(next, n.faults()))
}

// hit tells whether a fault took place at the point.
func (n *node) hit(point string) bool {
	data, err := os.ReadFile(n.faults() + ".hits")
	return err == nil && strings.Contains("\n"+string(data), "\n"+point+" ")
}

// awaitHit waits for a fault at the point, for as long as the command runs that is
// to lead there. That may take effect a moment before the command ends.
func (n *node) awaitHit(point string, p *process) error {
	for {
		select {
		case <-p.ended:
			for end := time.Now().Add(limit); !n.hit(point); time.Sleep(time.Millisecond) {
				if time.Now().After(end) {
					return fmt.Errorf("%s was never reached: %v", point, p.outcome)
				}
			}
		case <-time.After(time.Millisecond):
		}
		if n.hit(point) {
			return nil
		}
	}
}

func TestFailpointsAreNotInTheUsersProgram(t *testing.T) {
	need(t)
	data, err := os.ReadFile(shared.migrate)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(data, []byte("MIGRATE_FAULTS")) {
		t.Error("it was built with the tag faults")
	}
}
