package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/namespaces"
	"github.com/migrate-hpc/migrate/namespaces/cgroup"
)

// pipeline is one move by hand.
type pipeline struct {
	b      *bench
	s      *subject
	dir    string // on the tmpfs
	cgroup *cgroup.Cgroup
	// restored is the criu that brought the job back, and waits for it like a shell.
	restored *exec.Cmd
	gone     chan error
}

func (p *pipeline) out() string     { return filepath.Join(p.dir, "out") }
func (p *pipeline) in() string      { return filepath.Join(p.dir, "in") }
func (p *pipeline) root() string    { return filepath.Join(p.dir, "root") }
func (p *pipeline) pidfile() string { return filepath.Join(p.dir, "pid") }

// output is the job's output directory on node a, which both ends of the pipe share.
func (p *pipeline) output() string { return filepath.Join(p.b.a.state, "jobs", string(p.s.ID), "io") }

// pipe takes a new job through the pipe.
func (b *bench) pipe(ctx context.Context, r run) (moved, error) {
	// The images on both sides, the job, and what is on its way.
	if err := errors.Join(installed("bash", "tar", "zstd", "unshare", "mount"), enoughRoom(r.job, 4, 3, b.memory)); err != nil {
		return moved{}, err
	}
	s, err := b.newSubject(ctx, r.job)
	if err != nil {
		return moved{}, err
	}
	p := &pipeline{b: b, s: s, dir: filepath.Join(b.memory, "pipe")}
	err = p.prepare()
	var m moved
	if err == nil {
		m, err = p.run(ctx)
	}
	return m, errors.Join(err, p.end(ctx), b.forget(ctx, s))
}

// prepare makes what the restore needs while the job still runs.
func (p *pipeline) prepare() error {
	for _, d := range []string{p.out(), p.in(), p.root(), p.runDir()} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return err
		}
	}
	var err error
	p.cgroup, err = cgroup.New(os.Getpid(), filepath.Base(p.b.memory)+"-pipe")
	return err
}

// runDir becomes CRIU's /run: on a tmpfs CRIU keeps the results of its probes there. It
// stays over all rounds.
func (p *pipeline) runDir() string { return filepath.Join(p.b.memory, "run") }

// criu is a command line of CRIU with the /run that it wants.
func (p *pipeline) criu(wrap []string, args ...string) []string {
	const script = `mount --bind "$1" /run && shift && exec "$@"`
	line := []string{"unshare", "--mount", "--propagation", "private", "--", "sh", "-c", script, "sh", p.runDir()}
	return append(append(append(line, wrap...), p.b.criu), args...)
}

func (p *pipeline) run(ctx context.Context) (moved, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return moved{}, err
	}
	defer listener.Close()
	began := time.Now()
	if err := p.dump(ctx); err != nil {
		return moved{}, fmt.Errorf("dump: %w", err)
	}
	dumped := time.Now()
	if err := p.transfer(ctx, listener); err != nil {
		return moved{}, fmt.Errorf("transfer: %w", err)
	}
	arrived := time.Now()
	if err := p.restore(); err != nil {
		return moved{}, fmt.Errorf("restore: %w", err)
	}
	down, err := p.judge(ctx, began)
	if err != nil {
		return moved{}, err
	}
	return moved{downtime: down.length, total: down.to.Sub(began), phases: []phase{
		{"dump", dumped.Sub(began)}, {"tar|zstd|tcp|tar", arrived.Sub(dumped)}, {"restore", down.to.Sub(arrived)},
	}}, nil
}

// dump saves the job and ends it, which is CRIU's own default.
func (p *pipeline) dump(ctx context.Context) error {
	args := []string{"dump", "-t", strconv.Itoa(p.s.Init), "-D", p.out(), "-o", "dump.log", "-v1",
		"--manage-cgroups=ignore", "--network-lock", "skip", "--external", "mnt[" + namespaces.IOMount + "]:io"}
	for _, m := range p.s.Mounts {
		args = append(args, "--external", "mnt["+m.Target+"]:"+m.Target)
	}
	_, err := runLine(ctx, nil, p.criu(nil, args...)...)
	return p.explain(err, p.out(), "dump.log")
}

const blocks = "--blocking-factor=2048" // 1 MiB

// transfer runs the two ends as two shell pipelines, as two nodes would.
func (p *pipeline) transfer(ctx context.Context, listener net.Listener) error {
	socket, err := listener.(*net.TCPListener).File()
	if err != nil {
		return err
	}
	defer socket.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	received := make(chan error, 1)
	go func() {
		_, err := runLine(ctx, []*os.File{socket}, "bash", "-o", "pipefail", "-c",
			`"$0" receive | zstd -d -q -c | tar -x `+blocks+` -f - -C "$1"`, p.b.self, p.in())
		received <- err
	}()
	_, err = runLine(ctx, nil, "bash", "-o", "pipefail", "-c",
		`tar -c `+blocks+` -f - -C "$1" . | zstd -1 -T0 -q -c | "$0" send "$2"`, p.b.self, p.out(), listener.Addr().String())
	if err != nil {
		cancel()
	}
	return errors.Join(err, <-received)
}

// restore starts CRIU in the surroundings that a job needs. It stays as the job's parent.
func (p *pipeline) restore() error {
	wrap, err := namespaces.RestoreEnv{Cgroup: p.cgroup, RootDir: p.root()}.Wrap()
	if err != nil {
		return err
	}
	wrap[0] = p.b.self
	args := []string{"restore", "-D", p.in(), "-o", "restore.log", "-v1", "--root", p.root(), "--pidfile", p.pidfile(),
		"--manage-cgroups=ignore", "--external", "mnt[io]:" + p.output()}
	for _, m := range p.s.Mounts {
		args = append(args, "--external", "mnt["+m.Target+"]:"+m.Source)
	}
	line := p.criu(wrap, args...)
	p.restored = exec.Command(line[0], line[1:]...)
	p.restored.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := p.restored.Start(); err != nil {
		p.restored = nil
		return err
	}
	p.gone = make(chan error, 1)
	go func() { p.gone <- p.restored.Wait() }()
	return nil
}

// judge waits until the restored job has ticked for a while.
func (p *pipeline) judge(ctx context.Context, began time.Time) (downtime, error) {
	stdout := filepath.Join(p.output(), "stdout")
	before, err := os.Stat(stdout)
	if err != nil {
		return downtime{}, err
	}
	err = poll(ctx, moveTime, "the restored job to tick", func() (bool, error) {
		select {
		case err := <-p.gone:
			p.gone <- err
			return false, p.explain(fmt.Errorf("restore: CRIU has ended: %v", err), p.in(), "restore.log")
		default:
		}
		now, err := os.Stat(stdout)
		return err == nil && now.Size() > before.Size(), err
	})
	if err != nil {
		return downtime{}, err
	}
	pause(ctx, afterwards)
	text, err := os.ReadFile(stdout)
	if err != nil {
		return downtime{}, err
	}
	return findDowntime(string(text), began)
}

// explain adds CRIU's log to an error.
func (p *pipeline) explain(err error, dir, log string) error {
	if err == nil {
		return nil
	}
	text, _ := os.ReadFile(filepath.Join(dir, log))
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return fmt.Errorf("%w\n%s", err, strings.Join(lines[max(0, len(lines)-10):], "\n"))
}

// end takes away the restored job and all that was stored.
func (p *pipeline) end(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeTime)
	defer cancel()
	var errs []error
	if p.restored != nil {
		errs = append(errs, p.kill(ctx))
	}
	if p.cgroup != nil {
		errs = append(errs, p.cgroup.Kill(ctx), poll(ctx, removeTime, "the cgroup to go", func() (bool, error) {
			return p.cgroup.Remove() == nil, nil
		}))
	}
	return errors.Join(append(errs, removeDir(p.dir))...)
}

// kill ends the restored job, and with it CRIU.
func (p *pipeline) kill(ctx context.Context) error {
	text, err := os.ReadFile(p.pidfile())
	pid, bad := strconv.Atoi(strings.TrimSpace(string(text)))
	pids, _ := p.cgroup.Pids()
	if err == nil && bad == nil && slices.Contains(pids, pid) {
		_ = unix.Kill(pid, unix.SIGKILL) // it may just have ended
		if p.endsIn(ctx, removeTime/4) {
			return nil
		}
	}
	_ = p.restored.Process.Kill()
	if !p.endsIn(ctx, removeTime/4) {
		return fmt.Errorf("CRIU (pid %d) outlives SIGKILL", p.restored.Process.Pid)
	}
	return nil
}

// endsIn waits for the end of the CRIU that restored.
func (p *pipeline) endsIn(ctx context.Context, most time.Duration) bool {
	select {
	case <-p.gone:
		return true
	case <-ctx.Done():
	case <-time.After(most):
	}
	return false
}

// runLine runs a command line in a process group of its own, which ends as a whole, and
// returns its standard output. The error quotes what it said.
func runLine(ctx context.Context, files []*os.File, line ...string) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, moveTime, fmt.Errorf("it took longer than %v", moveTime))
	defer cancel()
	cmd := exec.CommandContext(ctx, line[0], line[1:]...)
	cmd.ExtraFiles = files
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	var out, said strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &said
	err := cmd.Run()
	if err == nil {
		return out.String(), nil
	}
	return out.String(), errors.Join(fmt.Errorf("%s: %w: %s", line[0], err, strings.TrimSpace(said.String())), context.Cause(ctx))
}
