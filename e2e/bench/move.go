package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/e2e/oracle"
)

const (
	moveTime   = 10 * time.Minute
	afterwards = 500 * time.Millisecond // of ticks, to be judged
)

// migrate moves a new job from node a to node b.
func (b *bench) migrate(ctx context.Context, r run) (moved, error) {
	// The job on both nodes for a while, and what is on its way.
	if err := enoughRoom(r.job, 2.3, 1.1, b.memory); err != nil {
		return moved{}, err
	}
	s, err := b.newSubject(ctx, r.job)
	if err != nil {
		return moved{}, err
	}
	m, err := b.moveAndJudge(ctx, s, r)
	return m, errors.Join(err, b.forget(ctx, s))
}

func (b *bench) moveAndJudge(ctx context.Context, s *subject, r run) (moved, error) {
	m := moved{rss: s.rss}
	stopWatching, err := b.watch(ctx, r.watched)
	if err != nil {
		return m, err
	}
	if r.job.spin { // in life the target is another machine, and takes no time from the job
		if err := b.b.giveWay(19); err != nil {
			return m, err
		}
		defer b.b.giveWay(0)
	}
	began := time.Now()
	events, err := b.move(ctx, s, r.flags)
	if err == nil {
		err = b.filled(ctx, s)
	}
	m.total = time.Since(began)
	m.source, m.target, err = stopWatching(err)
	if err != nil {
		return m, err
	}
	pause(ctx, afterwards)
	out, err := b.output(ctx, b.b, s)
	if err != nil {
		return m, err
	}
	m.tellFrom(events)
	down, err := findDowntime(out, began)
	m.downtime = down.length
	m.loopRates(out, events, began)
	return m, err
}

// tellFrom takes what the agent says about the move.
func (m *moved) tellFrom(events []api.Event) {
	res := events[len(events)-1].Done
	m.sent = res.Sent
	for _, p := range []api.Phase{api.PhasePreflight, api.PhaseWarmup, api.PhaseFreeze, api.PhaseDump, api.PhaseResidue, api.PhasePark, api.PhaseCommit, api.PhaseResume, api.PhaseRelease} {
		m.phases = append(m.phases, phase{string(p), res.Phases[p]})
	}
}

// loopRates are those before the move and from the begin of the warm-up to the freeze.
func (m *moved) loopRates(stdout string, events []api.Event, began time.Time) {
	report, _ := oracle.Judge(stdout) // judged already
	m.loopBefore = loopRate(report.Loops, began.Add(-loopWindow), began)
	m.loopWarm = loopRate(report.Loops, entered(events, api.PhaseWarmup), entered(events, api.PhaseFreeze))
}

// entered is when the move first said that it is in a phase.
func entered(events []api.Event, p api.Phase) time.Time {
	for _, e := range events {
		if e.Phase == p {
			return e.At
		}
	}
	return time.Time{}
}

// move runs migrate move, as a user does. The last event is that it is done.
func (b *bench) move(ctx context.Context, s *subject, flags string) ([]api.Event, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, moveTime, fmt.Errorf("the move took longer than %v", moveTime))
	defer cancel()
	args := append([]string{"--socket", b.a.socket(), "move", "--json"}, strings.Fields(flags)...)
	var out, said bytes.Buffer
	cmd := exec.CommandContext(ctx, b.binary, append(args, string(s.ID), b.b.name)...)
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %s", err, strings.TrimSpace(said.String())), context.Cause(ctx))
	}
	var events []api.Event
	for decoder := json.NewDecoder(&out); ; {
		var e api.Event
		if err := decoder.Decode(&e); errors.Is(err, io.EOF) {
			return nil, errors.New("migrate move did not say how it ended")
		} else if err != nil {
			return nil, fmt.Errorf("the events of migrate move: %w", err)
		}
		events = append(events, e)
		if e.Done != nil {
			return events, nil
		}
	}
}

// filled waits until all of the job's memory is in place on node b.
func (b *bench) filled(ctx context.Context, s *subject) error {
	return poll(ctx, moveTime, "the job's memory to be in place", func() (bool, error) {
		j, err := b.b.client.Inspect(ctx, string(s.ID))
		if err == nil && j.State != api.JobRunning {
			err = fmt.Errorf("the job is %s on %s", j.State, j.Node)
		}
		return j.Filled >= j.Total, err
	})
}
