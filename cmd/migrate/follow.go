package main

import (
	"context"
	"fmt"
	"io"
	"sync"

	"github.com/migrate-hpc/migrate/agent/api"
)

// followAPI is what a follower asks of an agent.
type followAPI interface {
	// Wait returns when the job is over, has moved, or after a while.
	Wait(ctx context.Context, ref string) (api.Job, error)
	// Logs copies from offset until the job is over or has moved, and returns the number of bytes.
	Logs(ctx context.Context, ref, stream string, offset int64, follow bool, w io.Writer) (int64, error)
}

// follower follows a job until it is over, through moves and restarts of agents.
type follower struct {
	agent   followAPI
	job     api.Job              // at the beginning
	outputs map[string]io.Writer // by stream
	notify  func(string)         // prints moves and outages
	backoff backoff

	ended chan struct{} // closed when the job is over
}

func newFollower(agent followAPI, j api.Job, outputs map[string]io.Writer, notify func(string)) *follower {
	return &follower{agent: agent, job: j, outputs: outputs, notify: notify, backoff: newBackoff(), ended: make(chan struct{})}
}

// follow returns the job as it was at its end, when all of its output is copied.
func (f *follower) follow(ctx context.Context) (api.Job, error) {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var copies sync.WaitGroup
	for stream, w := range f.outputs {
		copies.Go(func() {
			if err := f.copy(ctx, stream, w); err != nil {
				stop(err)
			}
		})
	}
	j, err := f.wait(ctx)
	if err != nil {
		stop(err)
	}
	close(f.ended)
	copies.Wait()
	return j, context.Cause(ctx)
}

func (f *follower) wait(ctx context.Context) (api.Job, error) {
	backoff := f.backoff
	last := f.job
	last.State = api.JobRunning // so that a job that is astray from the beginning is reported
	for {
		j, err := f.agent.Wait(ctx, string(f.job.ID))
		switch {
		case err == nil:
			backoff.reset()
			f.notifyChange(last, j)
			if isOver(j) {
				return j, nil
			}
			last = j
		case !retryable(err):
			return j, err
		case backoff.reachesMax():
			f.notify(fmt.Sprintf("%v; the job is not affected, trying on", err))
		}
		if err := backoff.wait(ctx, nil); err != nil {
			return j, err
		}
	}
}

func (f *follower) notifyChange(last, j api.Job) {
	if nodeOf(j) != nodeOf(last) {
		f.notify(fmt.Sprintf("job %s moved to %s", label(j), nodeOf(j)))
	}
	if j.State == api.JobAstray && last.State != api.JobAstray {
		f.notify(astrayNotice(j))
	}
}

// copy copies one stream. The job's end alone does not finish it: only a request that
// began after the end has all output.
func (f *follower) copy(ctx context.Context, stream string, w io.Writer) error {
	backoff := f.backoff
	var offset int64
	for {
		last, wake := false, f.ended
		select {
		case <-f.ended:
			last, wake = true, nil
		default:
		}
		n, err := f.agent.Logs(ctx, string(f.job.ID), stream, offset, true, w)
		offset += n
		switch {
		case err == nil && last:
			return nil
		case err != nil && !retryable(err):
			return err
		case err == nil || n > 0:
			backoff.reset()
		}
		if err := backoff.wait(ctx, wake); err != nil {
			return err
		}
	}
}
