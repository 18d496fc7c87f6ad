package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// way is how a job gets from one node to the other.
type way string

// The ways.
const (
	ours   way = "migrate"
	podman way = "podman"
	pipe   way = "pipe"
)

// load is the job: an oracle that rewrites 1 % of its pages per second.
type load struct {
	mib    int64
	fields bool // memory as of a simulation; else half random, a quarter text, a quarter zero
	spin   bool // a thread computes all the time
}

// run is one kind of move, done once per round.
type run struct {
	way     way
	job     load
	flags   string // of migrate move
	watched bool   // memory of both nodes is looked at all the time, which costs a little
}

func (r run) String() string {
	words := []string{string(r.way), r.flags, fmt.Sprintf("%d MiB", r.job.mib)}
	for word, has := range map[string]bool{"of numbers": r.job.fields, "computing": r.job.spin, "weighed": r.watched} {
		if has {
			words = append(words, word) // a run has one of them at most
		}
	}
	return strings.Join(strings.Fields(strings.Join(words, " ")), " ")
}

// moved is what one move gave.
type moved struct {
	downtime time.Duration // by the job's own ticks
	total    time.Duration // until the job runs and all of its memory is in place
	phases   []phase
	rss      int64 // of the job before, bytes
	sent     int64 // bytes on the wire
	source   int64 // peak of the agent, if watched
	target   sum   // the moment when its total was largest, if watched
	loopWarm float64
	// loopBefore and loopWarm are rates per second, 0 if there were too few ticks.
	loopBefore float64
}

// phase is a part of a move, by the clock of who did it.
type phase struct {
	name string
	took time.Duration
}

// cannot says why something is not measured. It is no failure of what is measured.
type cannot string

func (c cannot) Error() string { return string(c) }

// outcome of a run in one round.
type outcome struct {
	moved
	err error
}

// sized is the run with the size that the user allows.
func (b *bench) sized(r run) run {
	if b.o.mib > 0 {
		r.job.mib = min(r.job.mib, b.o.mib)
	}
	return r
}

// get makes the run unless the round has seen it.
func (b *bench) get(ctx context.Context, r run, round int) (moved, error) {
	r = b.sized(r)
	if len(b.done[r]) == 0 {
		b.order = append(b.order, r)
	}
	if round == len(b.done[r]) {
		m, err := b.try(ctx, r)
		b.done[r] = append(b.done[r], outcome{m, err})
		if err == nil {
			tell("round %d, load %s, %v: downtime %.3f s", round+1, loadAverage(), r, m.downtime.Seconds())
		}
	}
	o := b.done[r][round]
	return o.moved, o.err
}

const tryMiB = 16

// try does it with a small job first where the way is new, so that no row pays for what
// is only done the first time, and no long run begins that cannot end.
func (b *bench) try(ctx context.Context, r run) (moved, error) {
	if err := b.known(ctx, r.way); err != nil {
		return moved{}, err
	}
	m, err := b.do(ctx, r)
	if err != nil {
		err = fmt.Errorf("%v: %w", r, err)
	}
	return m, err
}

func (b *bench) known(ctx context.Context, w way) error {
	err, known := b.tried[w]
	if known {
		return err
	}
	tell("%s: trying with a job of %d MiB", w, tryMiB)
	if _, err = b.do(ctx, run{way: w, job: load{mib: tryMiB}}); err != nil && w != ours && !errors.As(err, new(cannot)) {
		err = cannot(fmt.Sprintf("%s does not work here: %v", w, err))
	}
	b.tried[w] = err
	return err
}

func (b *bench) do(ctx context.Context, r run) (moved, error) {
	switch r.way {
	case podman:
		return b.podman(ctx, r)
	case pipe:
		return b.pipe(ctx, r)
	}
	return b.migrate(ctx, r)
}

// measure takes the samples of a row, ours and the peer's in turn, until one fails. A
// peer that cannot be run leaves its column empty.
func (r row) measure(ctx context.Context, b *bench) (samples, error) {
	rounds := b.o.rounds
	if r.rounds > 0 {
		rounds = min(rounds, r.rounds)
	}
	var s samples
	for i := range rounds {
		v, err := r.ours(ctx, b, i)
		if err != nil {
			return s, err
		}
		s.ours = append(s.ours, v)
		v, err = r.peer(ctx, b, i)
		if why := cannot(""); errors.As(err, &why) {
			s.noPeer = string(why)
			continue
		} else if err != nil {
			return s, err
		}
		s.peer = append(s.peer, v)
	}
	return s, nil
}

// notePhases says where the time of each run went.
func (b *bench) notePhases() {
	for _, r := range b.order {
		var moves []moved
		for _, o := range b.done[r] {
			if o.err == nil {
				moves = append(moves, o.moved)
			}
		}
		if len(moves) > 0 {
			b.note("%v by phase: %s", r, medianPhases(moves))
		}
		if n := len(moves); n > 0 && r.watched {
			b.note("target's peak, last round: %v", moves[n-1].target)
		}
	}
	b.note("load at the end: %s", loadAverage())
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
