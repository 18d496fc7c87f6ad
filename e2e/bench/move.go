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
)

// moved is one move, by either way.
type moved struct {
	still  time.Duration // by the job's own ticks
	total  time.Duration // until the job runs and all of its memory is in place
	phases []phase
}

// phase is a part of a move, by the clock of who did it.
type phase struct {
	name string
	took time.Duration
}

// pair is one move by each way, right after each other.
type pair struct {
	ours moved
	peer *moved // nil: cannot be run
}

const (
	moveTime   = 3 * time.Minute
	afterwards = 500 * time.Millisecond // of ticks, to be judged
)

// sideBySide lets both ways take turns.
func (b *bench) sideBySide(ctx context.Context, mib int64) ([]pair, error) {
	if err := enoughRoom(mib); err != nil {
		return nil, err
	}
	var pairs []pair
	for i := range b.o.rounds {
		var p pair
		var err error
		if p.ours, err = b.ours(ctx, mib); err != nil {
			return nil, fmt.Errorf("migrate move: %w", err)
		}
		said := fmt.Sprintf("round %d of %d, load %s: ours stood still for %.3f s", i+1, b.o.rounds, load(), p.ours.still.Seconds())
		if b.noPipe == "" {
			m, err := b.pipe(ctx, mib)
			if err != nil {
				return nil, fmt.Errorf("the pipe: %w", err)
			}
			p.peer = &m
			said += fmt.Sprintf(", the pipe for %.3f s", m.still.Seconds())
		}
		tell("%s", said)
		pairs = append(pairs, p)
	}
	b.notePhases(pairs)
	return pairs, nil
}

// ours moves a new job from node a to node b.
func (b *bench) ours(ctx context.Context, mib int64) (moved, error) {
	s, err := b.newSubject(ctx, mib)
	if err != nil {
		return moved{}, err
	}
	m, err := b.moveAndJudge(ctx, s)
	return m, errors.Join(err, b.forget(ctx, s))
}

func (b *bench) moveAndJudge(ctx context.Context, s *subject) (moved, error) {
	began := time.Now()
	res, err := b.move(ctx, s)
	if err != nil {
		return moved{}, err
	}
	if err := b.filled(ctx, s); err != nil {
		return moved{}, err
	}
	m := moved{total: time.Since(began)}
	for _, p := range []api.Phase{api.Preflight, api.Warmup, api.Freeze, api.Dump, api.Residue, api.Park, api.Commit, api.Resume, api.Release} {
		m.phases = append(m.phases, phase{string(p), res.Phases[p]})
	}
	pause(ctx, afterwards)
	out, err := b.output(ctx, b.b, s)
	if err != nil {
		return moved{}, err
	}
	still, err := findStandStill(out, began)
	m.still = still.length
	return m, err
}

// move runs migrate move, as a user does.
func (b *bench) move(ctx context.Context, s *subject) (*api.Result, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, moveTime, fmt.Errorf("the move took longer than %v", moveTime))
	defer cancel()
	var out, said bytes.Buffer
	cmd := exec.CommandContext(ctx, b.migrate, "--socket", b.a.socket(), "move", "--json", string(s.ID), b.b.name)
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %s", err, strings.TrimSpace(said.String())), context.Cause(ctx))
	}
	for events := json.NewDecoder(&out); ; {
		var e api.Event
		if err := events.Decode(&e); errors.Is(err, io.EOF) {
			return nil, errors.New("migrate move did not say how it ended")
		} else if err != nil {
			return nil, fmt.Errorf("the events of migrate move: %w", err)
		}
		if e.Done != nil {
			return e.Done, nil
		}
	}
}

// filled waits until all of the job's memory is in place on node b.
func (b *bench) filled(ctx context.Context, s *subject) error {
	return poll(ctx, moveTime, "the job's memory to be in place", func() (bool, error) {
		j, err := b.b.client.Inspect(ctx, string(s.ID))
		if err == nil && j.State != api.Running {
			err = fmt.Errorf("the job is %s on %s", j.State, j.Node)
		}
		return j.Filled >= j.Total, err
	})
}

// notePhases says where the time of both ways went.
func (b *bench) notePhases(pairs []pair) {
	var ours, peer []moved
	for _, p := range pairs {
		ours = append(ours, p.ours)
		if p.peer != nil {
			peer = append(peer, *p.peer)
		}
	}
	b.note("ours by phase, median:  %s", medianPhases(ours))
	if len(peer) > 0 {
		b.note("the pipe by phase:      %s", medianPhases(peer))
	}
	b.note("load at the end of the rounds: %s", load())
}

func medianPhases(moves []moved) string {
	var said []string
	for i, p := range moves[0].phases {
		var values []float64
		for _, m := range moves {
			values = append(values, float64(m.phases[i].took.Microseconds())/1000)
		}
		said = append(said, fmt.Sprintf("%s %.0f ms", p.name, newSpread(values).Median))
	}
	return strings.Join(said, ", ")
}
