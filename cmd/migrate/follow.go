package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/migrate-hpc/migrate/agent/api"
)

// followed is what a follower asks of an agent.
type followed interface {
	// Wait returns when the job is settled, has moved, or after a while.
	Wait(ctx context.Context, ref string) (api.Job, error)
	// Logs copies from offset until the job is settled or has moved, and says how much.
	Logs(ctx context.Context, ref, stream string, offset int64, follow bool, w io.Writer) (int64, error)
}

// How long a follower lets pass between two attempts.
const (
	firstPause = 50 * time.Millisecond
	mostPause  = 2 * time.Second
)

// follower stays with a job until it is settled, through moves and restarts of
// agents.
type follower struct {
	agent   followed
	job     api.Job              // when it was last seen
	outputs map[string]io.Writer // by stream
	tell    func(string)         // news
	pause   pause

	over chan struct{} // closed once the job is known to be settled
}

func newFollower(agent followed, j api.Job, outputs map[string]io.Writer, tell func(string)) *follower {
	return &follower{
		agent: agent, job: j, outputs: outputs, tell: tell,
		pause: pause{first: firstPause, most: mostPause}, over: make(chan struct{}),
	}
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
	close(f.over)
	copies.Wait()
	return j, context.Cause(ctx)
}

func (f *follower) wait(ctx context.Context) (api.Job, error) {
	pause := f.pause
	at, told := place(f.job), false
	for {
		j, err := f.agent.Wait(ctx, string(f.job.ID))
		if err != nil && !outage(err) {
			return j, err
		}
		if err != nil {
			if pause.exhausted() {
				f.tell(fmt.Sprintf("%v; the job is not affected, trying on", err))
			}
		} else {
			pause.reset()
			if now := place(j); now != at {
				at = now
				f.tell(fmt.Sprintf("job %s moved to %s", label(j), now))
			}
			if settled(j) {
				return j, nil
			}
			if j.State == api.JobAstray && !told {
				told = true
				f.tell(astray(j))
			}
		}
		if err := pause.take(ctx, nil); err != nil {
			return j, err
		}
	}
}

// copy is done when a request that began after the end of the job has come to its
// own end: then nothing can follow.
func (f *follower) copy(ctx context.Context, stream string, w io.Writer) error {
	pause := f.pause
	var offset int64
	for {
		last, wake := false, f.over
		select {
		case <-f.over:
			last, wake = true, nil
		default:
		}
		n, err := f.agent.Logs(ctx, string(f.job.ID), stream, offset, true, w)
		offset += n
		switch {
		case err == nil && last:
			return nil
		case err != nil && !outage(err):
			return err
		case err == nil || n > 0:
			pause.reset()
		}
		if err := pause.take(ctx, wake); err != nil {
			return err
		}
	}
}

// settled tells whether a job runs nowhere and will not by itself.
func settled(j api.Job) bool {
	return j.State == api.JobExited || j.State == api.JobSaved || j.State == api.JobLost
}

// astray says that nobody can reach a job that runs.
func astray(j api.Job) string {
	return fmt.Sprintf("job %s is astray: no shim answers for it, but %d of its processes run on %s; `migrate kill -s KILL %s` ends them", label(j), j.Tasks, j.Node, j.ID)
}

// outage tells an agent that cannot be reached, or cannot answer now, from an answer.
func outage(err error) bool {
	var e *api.Error
	return errors.As(err, &e) && (e.Code == api.CodeUnreachable || e.Code == api.CodeBusy)
}

// place is the node that a job is on.
func place(j api.Job) string {
	if j.MovedTo != nil {
		return j.MovedTo.Node
	}
	return j.Node
}

// pause grows with every attempt that fails.
type pause struct{ first, most, next time.Duration }

func (p *pause) reset() { p.next = 0 }

// exhausted says, once per outage, that it lasts.
func (p *pause) exhausted() bool { return p.next < p.most && 2*p.next >= p.most }

// take waits; wake ends it early.
func (p *pause) take(ctx context.Context, wake <-chan struct{}) error {
	p.next = min(max(2*p.next, p.first), p.most)
	t := time.NewTimer(p.next)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-wake:
	case <-t.C:
	}
	return nil
}
