package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/job"
)

// attach follows a job in the foreground and returns its exit status as an error.
func (c *cli) attach(ctx context.Context, j api.Job, signals <-chan os.Signal, quiet bool) error {
	ctx, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	var printing sync.Mutex // the follower and the forwarder both notify
	notify := func(line string) {
		printing.Lock()
		defer printing.Unlock()
		if !quiet {
			c.notice(line)
		}
	}
	agent := c.client()
	forwarding, endForwarding := context.WithCancel(ctx)
	var forwarder sync.WaitGroup
	forwarder.Go(func() {
		f := signalForwarder{agent: agent, job: j, signals: signals, notify: notify, backoff: newBackoff()}
		if err := f.run(forwarding); err != nil {
			giveUp(err)
		}
	})
	to := c.jobOutput(j.Spec.UID)
	ended, err := newFollower(agent, j, outputs(j.Spec, *to), notify).follow(ctx)
	err = errors.Join(err, to.flush())
	endForwarding()
	forwarder.Wait()
	if err != nil {
		return err
	}
	c.explainEnd(ended)
	return endError(ended)
}

// explainEnd says why a job is over that did not end by itself or by its user.
func (c *cli) explainEnd(j api.Job) {
	if j.Exit != nil && j.Exit.Reason != "" {
		c.notice(fmt.Sprintf("job %s was ended: %s; see --output-limit and -o of `migrate run --help`", label(j), j.Exit.Reason))
	}
	if killedForMemory(j) {
		c.notice(fmt.Sprintf("job %s failed: %s; give it more with `migrate run --memory SIZE`", label(j), outOfMemory(j)))
	}
	if j.Superseded != nil {
		c.notice(fmt.Sprintf("job %s was ended on %s: %s", label(j), j.Node, superseded(j)))
	}
}

// outputs are the streams of a job that the user did not send to files.
func outputs(spec job.Spec, to streams) map[string]io.Writer {
	out := map[string]io.Writer{}
	if spec.Stdout == "" {
		out["stdout"] = to.out
	}
	if spec.Stderr == "" {
		out["stderr"] = to.err
	}
	return out
}
