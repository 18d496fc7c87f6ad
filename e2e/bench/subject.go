package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/job"
)

// subject is the job that is moved by an agent, or started by one.
type subject struct {
	api.Job
	rss int64 // resident size before the move, bytes
}

const (
	readyTime = 3 * time.Minute
	lifeTime  = 30 * time.Minute // it ends by itself if the bench was killed
	settling  = 300 * time.Millisecond
)

// flags are those of the oracle. It checks every page that it rewrites, and some more.
func (l load) flags() []string {
	flags := []string{"--count", "--mem", strconv.FormatInt(l.mib, 10), "--dirty", "1", "--check", "16",
		"--seconds", strconv.Itoa(int(lifeTime.Seconds()))}
	if l.fields {
		flags = append(flags, "--fields")
	}
	if l.spin {
		flags = append(flags, "--spin")
	}
	return flags
}

// settle lets the job run for a while, long enough to tell the rate of a loop.
func (l load) settle(ctx context.Context) {
	if l.spin {
		pause(ctx, loopWindow)
	}
	pause(ctx, settling)
}

// newSubject starts a job on node a and returns when it has all its memory.
func (b *bench) newSubject(ctx context.Context, l load) (*subject, error) {
	j, err := b.a.client.Run(ctx, api.RunRequest{Spec: job.Spec{
		Name: "oracle", Hostname: "oracle", Env: []string{"PATH=/usr/bin:/bin"},
		Args: append([]string{b.oracle}, l.flags()...),
	}})
	if err != nil {
		return nil, err
	}
	s := &subject{Job: j}
	err = poll(ctx, readyTime, "the job to be ready", func() (bool, error) {
		out, err := b.output(ctx, b.a, s)
		return strings.Contains(out, "ready\n"), err
	})
	if err == nil {
		s.Job, err = b.a.client.Inspect(ctx, string(j.ID))
	}
	if err == nil && s.Init == 0 {
		err = errors.New("the job has ended before it was moved")
	}
	if err == nil {
		s.rss, err = field(procPath(s.Init, "status"), "VmRSS:")
	}
	if err != nil {
		return nil, errors.Join(err, b.forget(ctx, s))
	}
	l.settle(ctx)
	return s, nil
}

// output is all that the job has written, as the node knows it.
func (b *bench) output(ctx context.Context, on *node, s *subject) (string, error) {
	var out bytes.Buffer
	_, err := on.client.Logs(ctx, string(s.ID), "stdout", 0, false, &out)
	return out.String(), err
}

// forget ends the job wherever it is.
func (b *bench) forget(ctx context.Context, s *subject) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeTime)
	defer cancel()
	for _, n := range []*node{b.b, b.a} {
		if err := n.removeJobs(ctx); err != nil {
			return fmt.Errorf("end job %s: %w", s.ID, err)
		}
	}
	return nil
}

// pause waits, or not if ctx ends.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
