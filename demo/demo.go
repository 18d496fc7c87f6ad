package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/job"
)

// Options of a demo.
type Options struct {
	Memory   int64    // bytes that the job holds, a multiple of MemoryStep
	Moves    int      // 1 to MaxMoves
	Job      []string // arguments with which this binary runs Job
	Out      io.Writer
	Terminal bool // Out is one
}

// Bounds of the options.
const (
	MemoryStep = 1 << 20
	MaxMoves   = 20
)

// demo is a demo under way; cleanUp undoes all of it.
type demo struct {
	o       Options
	screen  *screen
	dirs    dirs
	network *network
	nodes   []*node
	id      job.ID

	out       *output
	unfollow  context.CancelFunc
	following sync.WaitGroup
}

// Run shows the demo. It returns nil only if everything held that it claims and
// nothing was left behind.
func Run(ctx context.Context, o Options) (err error) {
	// Ctrl-C in the middle of the clean-up must not end it, nor must the end of
	// the reader of our output.
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
	return d.tell(ctx)
}

// tell is the story.
func (d *demo) tell(ctx context.Context) error {
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
	if err := d.recordStay(ctx, &e); err != nil {
		return err
	}
	for i := range d.o.Moves {
		from, to := d.nodes[i%2], d.nodes[(i+1)%2]
		if err := d.showMove(ctx, &e, from, to); err != nil {
			return err
		}
	}
	if err := limit(ctx, "let the job compare its memory", d.slow(), func(ctx context.Context) error { return d.gather(ctx, &e) }); err != nil {
		return err
	}
	checks := Judge(e)
	d.report(e, checks)
	if failed := Failed(checks); len(failed) > 0 {
		return fmt.Errorf("it does not hold what it claims: %s", strings.Join(failed, "; "))
	}
	return nil
}

// limit gives a step of the story a time limit and says which one it was that
// took too long.
func limit(ctx context.Context, what string, most time.Duration, step func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, most, fmt.Errorf("it took longer than %v", most))
	defer cancel()
	if err := step(ctx); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// slow is a time limit that goes with the memory: 20 MB/s.
func (d *demo) slow() time.Duration {
	return 30*time.Second + time.Duration(d.o.Memory/20e6)*time.Second
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

// inJob is where the job finds this binary, wherever it lies: a directory that a
// job has of its own would hide it.
const inJob = "/tmp/migrate"

func (d *demo) startJob(ctx context.Context) error {
	d.screen.heading("2. A job on " + nameA)
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	j, err := d.nodes[0].client.Run(ctx, api.RunRequest{Spec: job.Spec{
		Name: "counter", Hostname: "counter", Args: append([]string{inJob}, d.o.Job...),
		Env:   []string{"PATH=/usr/bin:/bin"},
		Binds: []job.Bind{{Source: exe, Target: inJob, ReadOnly: true}},
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

func (d *demo) stopFollowing() {
	if d.unfollow != nil {
		d.unfollow()
	}
	d.following.Wait()
}

// showLines shows n of the job's lines from a number on as they come.
func (d *demo) showLines(ctx context.Context, from, n int, head bool) error {
	if head {
		d.screen.line(margin + "  " + lineHead)
	}
	for i := from; i < from+n; i++ {
		lines, err := d.out.await(ctx, func(l []Line) bool { return len(l) > i })
		if err != nil {
			return err
		}
		d.screen.line(margin + "  " + showLine(lines[i]))
	}
	return nil
}

const lineHead = "count   pid   hostname    its own clock   memory compared"

func showLine(l Line) string {
	return fmt.Sprintf("%5d   %3d   %-8s   %14s   %15s", l.Count, l.Pid, l.Host, seconds(l.Clock), mebibytes(l.Checked))
}

// gather waits until the job has compared all of its memory after the last move,
// and reads its whole output once more.
func (d *demo) gather(ctx context.Context, e *Evidence) error {
	_, err := d.out.await(ctx, func(lines []Line) bool {
		e.Lines = lines
		d.screen.pass(fmt.Sprintf("the job goes on and compares all of its memory once more: line %d", len(lines)))
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

// end cleans up and says how it all ended.
func (d *demo) end(ctx context.Context, err error) error {
	if err != nil && ctx.Err() == nil {
		d.showLogs()
	}
	d.screen.line("")
	d.screen.pass("removing everything")
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

// failed keeps of an agent's error what still is true when all is removed: not
// where the job is, nor what to do about it.
func failed(err error) error {
	e := &api.Error{Code: api.CodeFailed, Message: "the demo failed: " + err.Error()}
	var told *api.Error
	if errors.As(err, &told) {
		e.Findings = told.Findings
	}
	return e
}

func interrupted() error {
	return &api.Error{Code: api.CodeCancelled, Message: "interrupted; nothing of the demo is left", Hint: "migrate demo"}
}
