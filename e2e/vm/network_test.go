package vm

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/migrate-hpc/migrate/e2e/vm/guest/api"
)

// outside is a host beside the first machine: a network namespace whose only link
// goes to the bridge. What it sends passes through the machine as through a switch.
const outside = `ip netns add outside && ip link add toward type veth peer name eth0 netns outside &&
ip link set toward master br0 up && ip -n outside addr add 10.77.0.50/24 dev eth0 && ip -n outside link set eth0 up && ip -n outside link set lo up`

func TestNetworkConnectionsWithTheOutsideSurviveMoves(t *testing.T) {
	c := newCluster(t)
	c.sh(c.A, outside)
	t.Cleanup(func() { c.sh(c.A, "ip netns del outside") })
	server := c.outside("serve", "10.77.0.50:5000")
	address := []string{"--net", "br0", "--address", "10.77.0.77/24", "--mac", "02:00:00:00:00:77"}
	listens := c.oracle(c.A, ada, address, "--mem", "8", "--check", "8", "--tcp-listen", "9000")
	talks := c.launch(c.A, root, "-w", "/tmp", "--net", "br0", "--address", "10.77.0.78/24", "--", echo, "talk", "10.77.0.50:5000")
	client := c.outside("talk", "10.77.0.77:9000")
	here, there := c.A, c.B
	c.blocks(c.A, client, 20)
	talks.blocks(here, 20)
	for range 2 {
		listens.move(here, there)
		c.blocks(c.A, client, 20)
		talks.move(here, there)
		here, there = there, here
		talks.blocks(here, 20)
		c.answersFrom(here)
		listens.ticks(here, 20)
	}
	listens.finish(here)
	c.must(here, root, "rm", "-f", talks.id)
	c.sh(c.A, fmt.Sprintf("kill %d %d; true", client, server))
}

// outside starts the echo program beside the first machine and returns its pid there.
func (c *cluster) outside(verb, address string) int {
	c.t.Helper()
	r, err := c.A.Run(context.WithoutCancel(c.t.Context()), api.Command{
		Args: []string{"ip", "netns", "exec", "outside", echo, verb, address}, Detach: true, Log: "/tmp/" + verb + ".log",
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return r.Code
}

// blocks waits until the client outside has got back so many more.
func (c *cluster) blocks(n *Node, pid int, more int) {
	c.t.Helper()
	c.counts("the client outside", more, func() string { return c.sh(n, fmt.Sprintf("cat /tmp/talk.log; kill -0 %d", pid)) })
}

// blocks waits until the job that talks has got back so many more.
func (j *job) blocks(n *Node, more int) {
	j.c.t.Helper()
	j.c.counts("the job", more, func() string { return j.logs(n) })
}

// counts wants a list of "n NUMBER" to be without a gap and to grow.
func (c *cluster) counts(who string, more int, read func() string) {
	c.t.Helper()
	length := func() int {
		lines := strings.SplitAfter(read(), "\n")
		for i, line := range lines[:len(lines)-1] {
			if line != fmt.Sprintf("n %d\n", i) {
				c.t.Fatalf("line %d of %s is %q", i, who, line)
			}
		}
		return len(lines) - 1
	}
	first := length()
	c.eventually(func() error {
		if now := length(); now < first+more {
			return fmt.Errorf("%s got from block %d to %d only", who, first, now)
		}
		return nil
	})
}

// answersFrom wants the job's address to answer with its own hardware address, from
// the machine that the job is on.
func (c *cluster) answersFrom(n *Node) {
	c.t.Helper()
	const mac = "02:00:00:00:00:77"
	c.sh(c.A, "ip netns exec outside ping -c 1 -w 60 10.77.0.77")
	if got := c.sh(c.A, "ip -n outside neigh show 10.77.0.77"); !strings.Contains(got, mac) {
		c.t.Errorf("10.77.0.77 is %s", got)
	}
	behind := c.sh(c.A, "bridge fdb show br br0 | grep -i "+mac+" | grep -v permanent; true")
	if away := strings.Contains(behind, "dev eth1"); away != (n == c.B) {
		c.t.Errorf("the job is on %s, and for the first machine's bridge its address is behind %q", n.Name, behind)
	}
}
