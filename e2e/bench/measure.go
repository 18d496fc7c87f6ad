package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
)

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

// measure runs the rows and prints what they gave, also when one of them failed.
func (b *bench) measure(ctx context.Context) error {
	var errs []error
	var results []result
	for _, r := range selected(b.o.only) {
		s, err := r.measure(ctx, b)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		results = append(results, s.of(r, err))
		if err != nil && !errors.As(err, new(cannot)) {
			errs = append(errs, fmt.Errorf("%s: %w", r.name, err))
		}
	}
	b.notePhases()
	printTable(os.Stdout, results, b.notes)
	if b.o.json != "" {
		errs = append(errs, writeJSON(b.o.json, results))
	}
	return errors.Join(errs...)
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
