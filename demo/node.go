package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/osthread"
	"github.com/migrate-hpc/migrate/transport/pki"
)

const (
	nameA     = "node-a"
	nameB     = "node-b"
	agentPort = ":7707"
)

// node is one of the two: a network namespace, directories and an agent.
type node struct {
	name, address string
	ns            netns.NsHandle
	state, run    string // directories
	pki, log      string
	client        *api.Client

	agent *os.Process
	ended chan struct{} // closed when the agent has ended
}

func newNode(name, address string, ns netns.NsHandle, d dirs) *node {
	n := &node{name: name, address: address, ns: ns, ended: make(chan struct{})}
	n.state, n.run = filepath.Join(d.durable, name), filepath.Join(d.volatile, name)
	n.pki, n.log = filepath.Join(d.durable, "pki", name), filepath.Join(d.durable, name+".log")
	n.client = api.NewClient(filepath.Join(n.run, api.SocketName))
	return n
}

// certify makes a cluster CA for this demo and a certificate for each node.
func certify(d dirs, nodes []*node) error {
	const valid = time.Hour
	ca := filepath.Join(d.durable, "pki")
	if err := pki.Init(ca, "migrate demo", 2*valid); err != nil {
		return err
	}
	for _, n := range nodes {
		if err := pki.Issue(ca, n.name, valid, n.pki); err != nil {
			return err
		}
	}
	return nil
}

// start starts the agent and returns when it answers.
func (n *node) start(ctx context.Context, peer *node) error {
	//house:allow os.Create: a log that goes with the demo
	log, err := os.Create(n.log)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command("/proc/self/exe", "agent", "--node", n.name, "--listen", n.address+agentPort,
		"--peer", peer.name+"="+peer.address+agentPort, "--pki", n.pki, "--state", n.state, "--run", n.run)
	cmd.Args[0] = "migrate"
	cmd.Stdout, cmd.Stderr = log, log
	// Ctrl-C is for the demo, which still needs the agents to clean up. They do not
	// outlive it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: unix.SIGKILL}
	if err := n.spawn(cmd); err != nil {
		return fmt.Errorf("start the agent of %s: %w", n.name, err)
	}
	return n.answers(ctx)
}

// spawn starts cmd in the node's network namespace. The thread that does so
// stays until the agent has ended, since Pdeathsig is about that thread.
func (n *node) spawn(cmd *exec.Cmd) error {
	started := make(chan error)
	go func() {
		_ = osthread.Throwaway(func() error {
			err := netns.Set(n.ns)
			if err == nil {
				err = cmd.Start()
			}
			started <- err
			if err != nil {
				return err
			}
			_ = cmd.Wait() // how it ended is in its log
			close(n.ended)
			return nil
		})
	}()
	err := <-started
	n.agent = cmd.Process
	return err
}

func (n *node) answers(ctx context.Context) error {
	for {
		_, err := n.client.Node(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the agent of %s does not answer (%w): %w", n.name, err, context.Cause(ctx))
		case <-n.ended:
			return fmt.Errorf("the agent of %s has ended", n.name)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// stop ends the agent, in good order if it can.
func (n *node) stop(ctx context.Context) error {
	if n.agent == nil {
		return nil
	}
	for _, sig := range []os.Signal{unix.SIGTERM, unix.SIGKILL} {
		if err := n.agent.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("end the agent of %s (pid %d): %w", n.name, n.agent.Pid, err)
		}
		select {
		case <-n.ended:
			return nil
		case <-time.After(agentEndTime):
		case <-ctx.Done():
		}
	}
	return fmt.Errorf("the agent of %s (pid %d) outlives SIGKILL", n.name, n.agent.Pid)
}

const agentEndTime = 7 * time.Second // it gives requests under way 5 s
