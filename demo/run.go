package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/job"
)

// Run shows the demo. It returns nil only if everything held that it claims and
// nothing was left behind.
func Run(ctx context.Context, o Options) (err error) {
	// Neither Ctrl-C nor the end of the output's reader may cut off the clean-up.
	signals := []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGPIPE}
	if !signal.Ignored(syscall.SIGHUP) { // as under nohup
		signals = append(signals, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(ctx, signals...)
	defer stop()
	d := &demo{o: o, screen: &screen{w: o.Out, terminal: o.Terminal}, out: newOutput()}
	version, err := prerequisites(ctx, o)
	if err != nil && ctx.Err() != nil {
		return interrupted()
	} else if err != nil {
		return err
	}
	d.screen.line("migrate demo: a running job changes the node under it and does not notice.")
	d.screen.line(fmt.Sprintf("(CRIU %v, %s of memory, %d moves)", version, mebibytes(o.Memory), o.Moves))
	defer func() { err = d.end(ctx, err) }()
	return d.show(ctx)
}

// show goes through the demo's steps.
func (d *demo) show(ctx context.Context) error {
	e := Evidence{Memory: d.o.Memory}
	err := limit(ctx, "set the two nodes up", 20*time.Second, d.setUp)
	if err != nil {
		return err
	}
	if err := limit(ctx, "start the job", 20*time.Second, d.startJob); err != nil {
		return err
	}
	for i := range d.o.Moves + 1 {
		e.Plan = append(e.Plan, d.nodes[i%2].name)
	}
	if err := d.recordPlacement(ctx, &e); err != nil {
		return err
	}
	for i := range d.o.Moves {
		from, to := d.nodes[i%2], d.nodes[(i+1)%2]
		if err := d.showMove(ctx, &e, from, to); err != nil {
			return err
		}
	}
	if err := limit(ctx, "let the job compare its memory", d.memoryLimit(), func(ctx context.Context) error { return d.gather(ctx, &e) }); err != nil {
		return err
	}
	checks := Judge(e)
	d.report(e, checks)
	if failed := Failed(checks); len(failed) > 0 {
		return fmt.Errorf("it does not hold what it claims: %s", strings.Join(failed, "; "))
	}
	return nil
}

func (d *demo) setUp(ctx context.Context) (err error) {
	d.screen.heading("1. Two nodes")
	if d.dirs, err = newDirs(); err != nil {
		return err
	}
	if d.network, err = newNetwork(); err != nil {
		return err
	}
	a, b := newNode(nameA, addressA, d.network.a, d.dirs), newNode(nameB, addressB, d.network.b, d.dirs)
	d.nodes = []*node{a, b}
	if err := certify(d.dirs, d.nodes); err != nil {
		return err
	}
	if err := errors.Join(a.start(ctx, b), b.start(ctx, a)); err != nil {
		return err
	}
	d.screen.say("Each is a network namespace of this machine with an agent, directories and a certificate of its own. The agents talk to each other by TLS and over a network that exists between them only.")
	d.screen.line("")
	for _, l := range grid([][]string{
		{a.name, a.address, fmt.Sprintf("agent pid %d", a.agent.Pid)},
		{b.name, b.address, fmt.Sprintf("agent pid %d", b.agent.Pid)},
	}) {
		d.screen.line(margin + "  " + l)
	}
	return nil
}

// binaryInJob is the path of this binary in the job. Its own path may be in a directory that
// the job has privately.
const binaryInJob = "/tmp/migrate"

func (d *demo) startJob(ctx context.Context) error {
	d.screen.heading("2. A job on " + nameA)
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	j, err := d.nodes[0].client.Run(ctx, api.RunRequest{Spec: job.Spec{
		Name: "counter", Hostname: "counter", Args: append([]string{binaryInJob}, d.o.Job...),
		Env:   []string{"PATH=/usr/bin:/bin"},
		Binds: []job.Bind{{Source: exe, Target: binaryInJob, ReadOnly: true}},
	}})
	if err != nil {
		return err
	}
	d.id = j.ID
	follow, cancel := context.WithCancel(context.WithoutCancel(ctx))
	d.unfollow = cancel
	d.following.Go(func() { d.out.follow(follow, d.nodes[0].client, d.id) })
	d.screen.say("Job %s runs in pid, ipc, net, uts, time, mount and cgroup namespaces of its own. Ten times a second it prints a line, and compares and rewrites the next sixteenth of its %s. All of its output is followed through the agent of %s.", d.id, mebibytes(d.o.Memory), nameA)
	d.screen.line("")
	return d.showLines(ctx, 0, 4, true)
}

// gather waits until the job has compared all of its memory after the last move.
// It then reads the whole output once more.
func (d *demo) gather(ctx context.Context, e *Evidence) error {
	_, err := d.out.await(ctx, func(lines []Line) bool {
		e.Lines = lines
		d.screen.status(fmt.Sprintf("the job goes on and compares all of its memory once more: line %d", len(lines)))
		return e.memory().OK
	})
	if err != nil {
		return err
	}
	e.Lines, e.Live, _, _ = d.out.now()
	var file fileBuffer
	if _, err := d.nodes[0].client.Logs(ctx, string(d.id), "stdout", 0, false, &file); err != nil {
		return err
	}
	e.File = file[:min(len(file), len(e.Live))] // the job has gone on since
	return nil
}

// end cleans up and returns the demo's error.
func (d *demo) end(ctx context.Context, err error) error {
	if err != nil && ctx.Err() == nil {
		d.showLogs()
	}
	d.screen.line("")
	d.screen.status("removing everything")
	left := d.cleanUp(ctx)
	for _, l := range left {
		d.screen.line("left behind: " + l)
	}
	if len(left) == 0 {
		d.screen.line("Removed: the job, both agents, their network, directories and cgroups.")
	}
	switch {
	case ctx.Err() != nil && len(left) == 0:
		return interrupted()
	case err != nil:
		return failed(err)
	case len(left) > 0:
		return &api.Error{Code: api.CodeCleanupLeft, Message: "the demo has left something behind, see above"}
	}
	return nil
}

// failed keeps the parts of an agent's error that are true after the clean-up: not
// where the job is, nor what to do about it.
func failed(err error) error {
	e := &api.Error{Code: api.CodeFailed, Message: "the demo failed: " + err.Error()}
	var apiErr *api.Error
	if errors.As(err, &apiErr) {
		e.Findings = apiErr.Findings
	}
	return e
}

func interrupted() error {
	return &api.Error{Code: api.CodeCancelled, Message: "interrupted; nothing of the demo is left", Hint: "migrate demo"}
}
