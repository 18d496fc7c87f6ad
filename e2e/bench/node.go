package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/agent/api"
)

// node is an agent with directories of its own.
type node struct {
	name, addr      string
	state, run, pki string // directories; run is on the tmpfs
	log             string
	client          *api.Client

	agent *os.Process
	ended chan struct{} // closed when the agent has ended
}

func (b *bench) newNode(name string) (*node, error) {
	n := &node{name: name, ended: make(chan struct{})}
	n.state, n.pki, n.log = filepath.Join(b.dir, name), filepath.Join(b.dir, name+"-pki"), filepath.Join(b.dir, name+".log")
	n.run = filepath.Join(b.memory, name)
	n.client = api.NewClient(n.socket())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	n.addr = l.Addr().String()
	return n, l.Close()
}

func (n *node) socket() string { return filepath.Join(n.run, "agent.sock") }

// start starts the agent and returns when it answers.
func (n *node) start(ctx context.Context, b *bench, peer *node) error {
	log, err := os.Create(n.log)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(b.binary, "agent", "--node", n.name, "--listen", n.addr, "--peer", peer.name+"="+peer.addr,
		"--pki", n.pki, "--state", n.state, "--run", n.run, "--criu", b.criu)
	cmd.Stdout, cmd.Stderr = log, log
	// Ctrl-C is for the bench, which still needs the agents to clean up. They do not
	// outlive it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: unix.SIGKILL}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // Pdeathsig is about the thread that starts the process
		err := cmd.Start()
		n.agent = cmd.Process
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ended is in its log
			close(n.ended)
		}
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start the agent of %s: %w", n.name, err)
	}
	return n.answers(ctx)
}

const (
	startTime  = 15 * time.Second
	stopTime   = 7 * time.Second // an agent gives requests under way 5 s
	removeTime = 20 * time.Second
)

func (n *node) answers(ctx context.Context) error {
	return poll(ctx, startTime, "the agent of "+n.name+" to answer", func() (bool, error) {
		select {
		case <-n.ended:
			said, _ := os.ReadFile(n.log)
			return false, fmt.Errorf("the agent of %s has ended: %s", n.name, said)
		default:
		}
		_, err := n.client.Node(ctx)
		return err == nil, nil
	})
}

// poll asks again and again until the answer is yes.
func poll(ctx context.Context, most time.Duration, what string, ask func() (bool, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, most, fmt.Errorf("waited %v for %s", most, what))
	defer cancel()
	for {
		if yes, err := ask(); yes || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(20 * time.Millisecond): // asking costs the job time, too
		}
	}
}

// giveWay sets the priority of the node's agent, in nice levels, and of all threads and
// processes that it starts from now on.
func (n *node) giveWay(level int) error {
	session := fmt.Sprintf("/proc/%d/autogroup", n.agent.Pid)
	if err := os.WriteFile(session, fmt.Append(nil, level), 0); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("priority of the agent of %s: %w", n.name, err)
	}
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", n.agent.Pid))
	if err != nil {
		return err
	}
	for _, t := range threads {
		tid, err := strconv.Atoi(t.Name())
		if err == nil {
			err = unix.Setpriority(unix.PRIO_PROCESS, tid, level)
		}
		if err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("priority of thread %s of the agent of %s: %w", t.Name(), n.name, err)
		}
	}
	return nil
}

// removeJobs ends and forgets every job that the node knows. One that is just leaving is
// tried again until it stays or is gone.
func (n *node) removeJobs(ctx context.Context) error {
	if n.agent == nil {
		return nil
	}
	return poll(ctx, removeTime, "the jobs of "+n.name+" to go", func() (bool, error) {
		jobs, err := n.client.Jobs(ctx)
		var e *api.Error
		if errors.As(err, &e) && e.Code == api.CodeUnreachable {
			return false, fmt.Errorf("jobs of %s may be left: %w", n.name, err)
		}
		left := err != nil
		for _, j := range jobs {
			left = n.client.Remove(ctx, string(j.ID), j.Here()) != nil && j.Here() || left
		}
		return !left, nil
	})
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
		case <-time.After(stopTime):
		case <-ctx.Done():
		}
	}
	return fmt.Errorf("the agent of %s (pid %d) outlives SIGKILL", n.name, n.agent.Pid)
}
