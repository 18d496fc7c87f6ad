package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/migrate-hpc/migrate/e2e/vm/guest/api"
)

// The CRIUs of an image, by where they are in the guest.
const (
	CRIU41 = "/usr/sbin/criu"                   // 4.1.1, of Debian 13
	CRIU42 = "/usr/local/lib/migrate/criu/criu" // 4.2.1, in a prefix as scripts/setup makes it
)

// Where things are on a node.
const (
	Migrate  = "/usr/local/bin/migrate"
	Oracle   = "/usr/local/bin/oracle"
	AgentLog = "/var/log/migrate.log"
	// AgentCgroup is what a service manager would start the agent in.
	AgentCgroup = "/sys/fs/cgroup/system/migrate"
)

// Node is a machine with migrate on it.
type Node struct {
	*Machine
	CRIU string // that the next agent uses

	cluster *Cluster
}

// Cluster is a pair of nodes of one certificate authority.
type Cluster struct {
	A, B *Node
}

// Programs are files of the host.
type Programs struct{ Migrate, Oracle string }

// NewCluster starts a pair of machines, installs the programs and starts the agents.
func NewCluster(ctx context.Context, l *Lab, p Programs) (*Cluster, error) {
	a, b, err := l.Pair(ctx)
	if err != nil {
		return nil, err
	}
	c := &Cluster{}
	c.A, c.B = &Node{Machine: a, CRIU: CRIU41, cluster: c}, &Node{Machine: b, CRIU: CRIU41, cluster: c}
	ca := filepath.Join(l.Dir, "ca")
	if err := host(ctx, p.Migrate, "pki", "init", ca, "--cluster", "vm"); err != nil {
		return nil, err
	}
	err = c.each(func(n *Node) error {
		if err := n.install(ctx, p, ca); err != nil {
			return err
		}
		return n.StartAgent(ctx)
	})
	return c, err
}

// Nodes are both.
func (c *Cluster) Nodes() []*Node { return []*Node{c.A, c.B} }

// each does something on both nodes at the same time.
func (c *Cluster) each(do func(*Node) error) error {
	done := make(chan error)
	for _, n := range c.Nodes() {
		go func() { done <- do(n) }()
	}
	return errors.Join(<-done, <-done)
}

// Other is the other node.
func (n *Node) Other() *Node {
	if n == n.cluster.A {
		return n.cluster.B
	}
	return n.cluster.A
}

func host(ctx context.Context, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", cmd, err, text)
	}
	return nil
}

func (n *Node) install(ctx context.Context, p Programs, ca string) error {
	certificates := filepath.Join(n.dir, "pki")
	if err := host(ctx, p.Migrate, "pki", "issue", ca, n.Name, "--out", certificates); err != nil {
		return err
	}
	for _, f := range []struct {
		local, remote string
		mode          os.FileMode
	}{
		{p.Migrate, Migrate, 0o755},
		{p.Oracle, Oracle, 0o755},
		{filepath.Join(certificates, "ca.crt"), "/etc/migrate/pki/ca.crt", 0o644},
		{filepath.Join(certificates, "node.crt"), "/etc/migrate/pki/node.crt", 0o644},
		{filepath.Join(certificates, "node.key"), "/etc/migrate/pki/node.key", 0o600},
	} {
		if err := n.Put(ctx, f.local, f.remote, f.mode); err != nil {
			return err
		}
	}
	_, err := n.Exec(ctx, "sync")
	return err
}

// StartAgent starts the agent as a service manager would, in a cgroup of its own to
// which the controllers are delegated, and waits until it answers. An agent that
// comes after another is started where that one has moved to, for what is above
// hands down controllers by now and may hold no process.
func (n *Node) StartAgent(ctx context.Context) error {
	home, err := n.Exec(ctx, "sh", "-c", "cd /sys/fs/cgroup && mkdir -p system/migrate"+
		" && echo +memory +cpu +pids >cgroup.subtree_control && echo +memory +cpu +pids >system/cgroup.subtree_control"+
		" && cd system/migrate && if test -d migrate-agent; then cd migrate-agent; fi && pwd")
	if err != nil {
		return err
	}
	peer := n.Other()
	r, err := n.Run(ctx, api.Command{
		Args:   []string{Migrate, "agent", "--peer", peer.Name + "=" + peer.IP() + ":7707", "--network", "br0=10.77.0.64/26@ada", "--criu", n.CRIU},
		Detach: true, Log: AgentLog, Cgroup: strings.TrimSpace(home),
	})
	if err != nil {
		return err
	}
	return n.awaitAgent(ctx, r.Code)
}

func (n *Node) awaitAgent(ctx context.Context, pid int) error {
	var err error
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end) && ctx.Err() == nil; time.Sleep(50 * time.Millisecond) {
		var r Result
		if r, err = n.Run(ctx, api.Command{Args: []string{Migrate, "ps"}}); err == nil && r.Code == 0 {
			return nil
		}
		if _, dead := n.Exec(ctx, "kill", "-0", fmt.Sprint(pid)); dead != nil {
			break
		}
	}
	log, _ := n.Get(context.WithoutCancel(ctx), AgentLog)
	return fmt.Errorf("the agent on %s does not answer: %w\n%s", n.Name, errors.Join(err, context.Cause(ctx)), tail(string(log)))
}

// StopAgent sends the agent a signal and waits until it is gone.
func (n *Node) StopAgent(ctx context.Context, signal string) error {
	_, err := n.Exec(ctx, "sh", "-c", `p=$(pgrep -xf "`+Migrate+` agent .*") && kill -`+signal+` $p && while kill -0 $p 2>/dev/null; do sleep 0.05; done`)
	return err
}

// Restart switches a node on after a power cut, and starts its agent.
func (n *Node) Restart(ctx context.Context) error {
	if err := n.Start(ctx); err != nil {
		return err
	}
	return n.StartAgent(ctx)
}
