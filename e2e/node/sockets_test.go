package node

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// connections starts a job that holds TCP connections in all states that last: half closed, full
// both ways, to another process and to itself.
func (n *node) connections(flags ...string) *job {
	n.c.t.Helper()
	j := n.launch(append(flags, "--", shared.helper, "connections")...)
	j.ready(n)
	return j
}

// intact wants every byte to come out at the other end of every connection.
func (j *job) intact(n *node) {
	j.t.Helper()
	n.migrate("kill", "-s", "USR1", j.id).want(j.t, 0)
	eventually(j.t, limit, func() error {
		if out := j.logs(n); !strings.Contains(out, "intact") {
			return fmt.Errorf("not yet: %s; stderr: %q", out, j.stderr(n))
		}
		return nil
	})
}

func TestConnectionsOverTheLoopbackSurviveMovesOfABusyNode(t *testing.T) {
	c := newCluster(t, 2)
	for name, flags := range map[string][]string{"without a user namespace": nil, "with a user namespace": {"--user-ns"}} {
		c.run(name, func(t *testing.T) {
			here, there := c.two()
			busy(t, 2)
			j := here.connections(flags...)
			for range 3 {
				j.move(here, there)
				here, there = there, here
			}
			j.intact(here)
		})
	}
}

func TestConnectionsWithUnsentDataAreRestoredFromACheckpoint(t *testing.T) {
	c := newCluster(t, 2)
	a, b := c.two()
	j := a.connections()
	dir := filepath.Join(c.dir, "checkpoint")
	a.migrate("checkpoint", "--leave-running", j.id, dir+"-kept").want(t, 0)
	a.migrate("checkpoint", j.id, dir).want(t, 0)
	b.migrate("restore", "-d", dir).want(t, 0)
	j.intact(b)
}

// A move that ends after the freeze leaves the loopback as it was, also if the agent dies in it.
func TestAnAbortedMoveLeavesTheLoopbackOpen(t *testing.T) {
	c := newCluster(t, 2, withFaults)
	a, b := c.two()
	j := a.launch("--", shared.helper, "loopback")
	j.numbers(a, 20)
	a.plan("dump.ended 1 eio")
	a.migrate("move", "--force", j.id, b.name).want(t, 4)
	j.numbers(a, 50)
	a.plan("dump.ended 1 kill")
	c.must(a.awaitHit("dump.ended", a.spawn("move", "--force", j.id, b.name)))
	a.kill()
	a.plan()
	a.start()
	j.numbers(a, 50)
	rules := a.migrate("exec", j.id, "--", "tc", "qdisc", "show", "dev", "lo").want(t, 0).out
	if strings.Contains(rules, "clsact") {
		t.Errorf("left behind: %s", rules)
	}
}

func TestOptionsOfSocketsAndMulticastGroupsSurviveMoves(t *testing.T) {
	c := newCluster(t, 2)
	for name, flags := range map[string][]string{"without a user namespace": nil, "with a user namespace": {"--user-ns"}} {
		c.run(name, func(t *testing.T) {
			here, there := c.two()
			j := here.launch(append(flags, "--", shared.helper, "options", "3")...)
			j.ready(here)
			for times := range 3 {
				here.migrate("kill", "-s", "USR1", j.id).want(t, 0)
				eventually(t, limit, func() error {
					out := j.logs(here)
					if strings.Count(out, "intact") != times+1 || strings.Count(out, "030201EF     3 ") != times+1 {
						return fmt.Errorf("after %d moves: %s; stderr: %q", times, out, j.stderr(here))
					}
					return nil
				})
				j.move(here, there)
				here, there = there, here
			}
		})
	}
}

// What the job will have taken in a moment later is waited for, with the job running on in between.
func TestAMoveWaitsUntilTheJobHasTakenInWhatArrived(t *testing.T) {
	c := newCluster(t, 2)
	here, there := c.two()
	j := here.launch("--", shared.helper, "late-reader")
	j.numbers(here, 20)
	for range 3 {
		j.move(here, there)
		here, there = there, here
		j.numbers(here, 50)
	}
}

func TestAJobThatTakesNothingInIsRefusedOrRunsOn(t *testing.T) {
	c := newCluster(t, 2)
	a, b := c.two()
	j := a.launch("--", shared.helper, "deaf")
	j.numbers(a, 20)
	a.migrate("move", j.id, b.name).want(t, 3).says(t, "datagram-waiting", "ss -uan")
	j.numbers(a, 20)
}

// The options that CRIU leaves out are set by a descriptor, and it has none.
func TestASocketInAMessageThatWasNotReceivedMoves(t *testing.T) {
	c := newCluster(t, 2)
	here, there := c.two()
	j := here.launch("--", shared.helper, "in-flight")
	j.ready(here)
	for range 2 {
		j.move(here, there)
		here, there = there, here
	}
	j.intact(here)
	if out := j.logs(here); !strings.Contains(out, "timestamps 0") {
		t.Errorf("an option of the socket arrived, and the document says that none does: %s", out)
	}
}
