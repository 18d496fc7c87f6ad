package node

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// cluster is a few nodes of one certificate authority.
type cluster struct {
	t     *testing.T
	tag   string // no other cluster on this machine has it
	dir   string
	nodes []*node
}

var clusters atomic.Int64

const port = "7707"

// newCluster makes so many nodes and starts their agents. It is taken down with
// the test.
func newCluster(t *testing.T, nodes int, opts ...option) *cluster {
	t.Helper()
	need(t)
	n := clusters.Add(1)
	c := &cluster{t: t, tag: strconv.FormatInt(int64(os.Getpid())*1000+n%1000, 36)}
	c.dir = filepath.Join(shared.dir, c.tag)
	open.Lock()
	open.clusters[c] = true
	open.Unlock()
	c.must(os.Mkdir(c.dir, 0o755))
	for _, step := range []func(){c.scrub, c.search, c.stop, c.removeJobs, c.reportFailure} { // the last one first
		t.Cleanup(step)
	}
	ca := filepath.Join(c.dir, "ca")
	command(t, shared.migrate, "pki", "init", ca, "--cluster", "test-"+c.tag).want(t, 0)
	for i := range nodes {
		c.nodes = append(c.nodes, c.newNode(i+1, fmt.Sprintf("10.99.%d.%d", n%250, i+1), ca))
	}
	for _, n := range c.nodes {
		c.connect(n)
	}
	for _, o := range opts {
		o(c)
	}
	for _, n := range c.nodes {
		n.start()
	}
	return c
}

// run is t.Run for a test that shares the cluster: what fails meanwhile fails it.
func (c *cluster) run(name string, test func(t *testing.T)) {
	c.t.Run(name, func(t *testing.T) {
		outer := c.t
		c.t = t
		defer func() { c.t = outer }()
		test(t)
	})
}

// option changes the nodes before their agents start.
type option func(*cluster)

func (c *cluster) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// two returns the nodes of a cluster of two.
func (c *cluster) two() (a, b *node) { return c.nodes[0], c.nodes[1] }

func (c *cluster) newNode(number int, ip, ca string) *node {
	c.t.Helper()
	name := fmt.Sprintf("n%d-%s", number, c.tag)
	n := &node{c: c, name: name, number: number, ip: ip, dir: filepath.Join(c.dir, fmt.Sprintf("n%d", number)), netns: "mg-" + name}
	n.criu = shared.criu
	for _, d := range []string{n.dir, n.state(), n.run()} {
		c.must(os.Mkdir(d, 0o755))
	}
	command(c.t, shared.migrate, "pki", "issue", ca, name, "--out", n.pki()).want(c.t, 0)
	c.ip("netns", "add", n.netns)
	c.ip("-n", n.netns, "link", "set", "lo", "up")
	for _, bridge := range []string{"br0", "br1"} {
		c.ip("-n", n.netns, "link", "add", bridge, "type", "bridge")
		c.ip("-n", n.netns, "link", "set", bridge, "up")
	}
	c.ip("-n", n.netns, "addr", "add", ip+"/24", "dev", "br0")
	return n
}

// connect links a node with the one before it.
func (c *cluster) connect(n *node) {
	if n.number == 1 {
		return
	}
	before := c.nodes[n.number-2]
	c.ip("-n", before.netns, "link", "add", "right", "type", "veth", "peer", "name", "left", "netns", n.netns)
	for _, end := range []struct{ netns, link string }{{before.netns, "right"}, {n.netns, "left"}} {
		c.ip("-n", end.netns, "link", "set", end.link, "master", "br0")
		c.ip("-n", end.netns, "link", "set", end.link, "up")
	}
}

// cut pulls the cable between two neighbours; join plugs it in again.
func (c *cluster) cut(left *node)  { c.ip("-n", left.netns, "link", "set", "right", "down") }
func (c *cluster) join(left *node) { c.ip("-n", left.netns, "link", "set", "right", "up") }

func (c *cluster) ip(args ...string) {
	c.t.Helper()
	command(c.t, "ip", args...).want(c.t, 0)
}

// node is one node and its agent.
type node struct {
	c        *cluster
	name     string
	number   int
	ip       string
	dir      string
	netns    string
	criu     string
	program  string   // the agent; "" = the one that users have
	identity string   // another directory of certificates; "" = pki
	cover    []string // shell commands run in the agent's mount namespace first
	peers    []string // NAME=HOST:PORT beyond the cluster's own
	networks []string // rules, BRIDGE=RANGE@GROUP
	agent    *process
}

func (n *node) state() string   { return filepath.Join(n.dir, "state") }
func (n *node) run() string     { return filepath.Join(n.dir, "run") }
func (n *node) pki() string     { return filepath.Join(n.dir, "pki") }
func (n *node) socket() string  { return filepath.Join(n.run(), "agent.sock") }
func (n *node) logPath() string { return filepath.Join(n.dir, "agent.log") }
func (n *node) addr() string    { return n.ip + ":" + port }

// start starts the agent and waits until it answers.
func (n *node) start() {
	n.c.t.Helper()
	args := []string{"--net=/run/netns/" + n.netns, "--", "setsid", "unshare", "--mount", "--", "/bin/sh", "-c",
		strings.Join(append(n.cover, `exec "$@" 2>>`+n.logPath()), " && "), "sh",
		"env", "MIGRATE_FAULTS=" + n.faults(), orElse(n.program, shared.migrate), "agent", "--node", n.name, "--state", n.state(), "--run", n.run(), "--listen", n.addr(), "--pki", orElse(n.identity, n.pki()), "--criu", n.criu}
	for _, p := range n.c.nodes {
		if p != n {
			args = append(args, "--peer", p.name+"="+p.addr())
		}
	}
	for _, p := range n.peers {
		args = append(args, "--peer", p)
	}
	for _, rule := range n.networks {
		args = append(args, "--network", rule)
	}
	// The agent leads a session, as one does that a service manager starts.
	// nsenter, setsid, unshare, sh and env each become the next one: the pid stays the same.
	n.agent = begin(n.c.t, time.Hour, nil, "nsenter", args...)
	n.awaitAgent()
}

func (n *node) awaitAgent() {
	n.c.t.Helper()
	eventually(n.c.t, limit, func() error {
		select {
		case <-n.agent.ended:
			n.c.t.Fatalf("the agent of %s ended: %v\n%s", n.name, n.agent.outcome, readFile(n.logPath()))
		default:
		}
		if r := n.migrate("moves"); r.code != 0 {
			return fmt.Errorf("no answer from the agent: %v", r)
		}
		return nil
	})
}

// kill ends the agent as a crash does.
func (n *node) kill() {
	n.c.t.Helper()
	_ = n.agent.cmd.Process.Kill() // it may have ended by itself
	<-n.agent.ended
}

// migrate runs a command against the node's agent.
func (n *node) migrate(args ...string) result {
	n.c.t.Helper()
	return n.spawn(args...).wait()
}

// spawn begins a command against the node's agent.
func (n *node) spawn(args ...string) *process {
	n.c.t.Helper()
	return spawn(n.c.t, limit, nil, shared.migrate, append([]string{"--socket", n.socket()}, args...)...)
}

// in runs a program in the node's network.
func (n *node) in(args ...string) result {
	n.c.t.Helper()
	return command(n.c.t, "nsenter", append([]string{"--net=/run/netns/" + n.netns, "--"}, args...)...)
}

// jobs are all that the node knows.
func (n *node) jobs() []view {
	n.c.t.Helper()
	r := n.migrate("ps", "-a", "--json").want(n.c.t, 0)
	list, err := decodeJobs(r.out)
	if err != nil {
		n.c.t.Fatalf("%v: %v", err, r)
	}
	return list
}

// decodeJobs reads one array or one object per line.
func decodeJobs(s string) (list []view, err error) {
	if strings.HasPrefix(strings.TrimSpace(s), "[") {
		return list, json.Unmarshal([]byte(s), &list)
	}
	for dec := json.NewDecoder(strings.NewReader(s)); dec.More(); {
		var v view
		if err := dec.Decode(&v); err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, nil
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

func readFile(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(data)
}
