package main

import (
	"context"
	"slices"
	"time"
)

// row is one line of the table: what is measured and what is to be reached.
type row struct {
	name  string
	claim string  // what ours and peer are, for the reader
	goal  float64 // the ratio ours / peer is to be at most this; 0: for information
	unit  unit
	// measure takes the samples. Rows that can share the same moves do, through bench.
	measure func(ctx context.Context, b *bench) (samples, error)
}

// samples of a row, one per round. peer may be shorter, or empty: then the notes say why.
type samples struct{ ours, peer []float64 }

var rows = []row{
	{"standstill-1GiB", "the job stands still: migrate move, the pipe", 1.0 / 3, inSeconds,
		func(ctx context.Context, b *bench) (samples, error) {
			return b.compared(ctx, 1024, func(m moved) time.Duration { return m.still })
		}},
	{"total-1GiB", "until the job runs and all of its memory is in place: migrate move, the pipe", 0, inSeconds,
		func(ctx context.Context, b *bench) (samples, error) {
			return b.compared(ctx, 1024, func(m moved) time.Duration { return m.total })
		}},
	{"source-memory", "peak of the source's agent, and 128 MiB", 1, inBytes,
		func(ctx context.Context, b *bench) (samples, error) {
			return b.weighed(ctx, 1024, func(w weight) (int64, int64) { return w.source, 128 << 20 })
		}},
	{"target-memory", "peak of the target, and the job's size", 1.2, inBytes,
		func(ctx context.Context, b *bench) (samples, error) {
			return b.weighed(ctx, 1024, func(w weight) (int64, int64) { return w.target, w.job })
		}},
}

// selected are the rows to run: the named one, or all.
func selected(only string) []row {
	return slices.DeleteFunc(slices.Clone(rows), func(r row) bool { return only != "" && r.name != only })
}

func rowNames() []string {
	var names []string
	for _, r := range rows {
		names = append(names, r.name)
	}
	return names
}

// compared takes one duration of each move of both ways.
func (b *bench) compared(ctx context.Context, mib int64, take func(moved) time.Duration) (samples, error) {
	pairs, err := b.pairs.get(b.size(mib), func(mib int64) ([]pair, error) { return b.sideBySide(ctx, mib) })
	var s samples
	for _, p := range pairs {
		s.ours = append(s.ours, take(p.ours).Seconds())
		if p.peer != nil {
			s.peer = append(s.peer, take(*p.peer).Seconds())
		}
	}
	return s, err
}

// weighed takes what a move needed in memory and what it may need.
func (b *bench) weighed(ctx context.Context, mib int64, take func(weight) (used, limit int64)) (samples, error) {
	weights, err := b.weights.get(b.size(mib), func(mib int64) ([]weight, error) { return b.weigh(ctx, mib) })
	var s samples
	for _, w := range weights {
		used, limit := take(w)
		s.ours, s.peer = append(s.ours, float64(used)), append(s.peer, float64(limit))
	}
	return s, err
}

// once remembers what was measured per size, so that rows share it.
type once[T any] map[int64]T

func (o once[T]) get(mib int64, measure func(int64) (T, error)) (T, error) {
	if known, ok := o[mib]; ok {
		return known, nil
	}
	v, err := measure(mib)
	if err == nil {
		o[mib] = v
	}
	return v, err
}
