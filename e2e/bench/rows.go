package main

import (
	"context"
	"slices"
)

// row is one line of the table: what is measured and what is to be reached.
type row struct {
	name       string
	claim      string // what ours and peer are, for the reader
	goal       goal   // of the ratio ours / peer
	unit       unit
	ours, peer quantity
	rounds     int // at most; 0: as many as the user wants
}

// goal bounds a ratio from above, or from below. The zero goal is none.
type goal struct {
	ratio float64
	least bool
}

func atMost(ratio float64) goal  { return goal{ratio, false} }
func atLeast(ratio float64) goal { return goal{ratio, true} }

func (g goal) metBy(ratio float64) bool {
	if g.least {
		return ratio >= g.ratio
	}
	return ratio <= g.ratio
}

// quantity is one sample of a number. Samples of one round that come from the same run
// share it.
type quantity func(ctx context.Context, b *bench, round int) (float64, error)

const gib = 1024 // MiB

// The runs that rows take their numbers from.
var (
	small     = run{way: ours, job: load{mib: gib / 4}, flags: "--force"}
	medium    = run{way: ours, job: load{mib: gib}, flags: "--force"}
	large     = run{way: ours, job: load{mib: 8 * gib}, flags: "--force"}
	stopped   = run{way: ours, job: load{mib: gib}, flags: "--stop-copy"}
	fields    = run{way: ours, job: load{mib: gib, fields: true}, flags: "--force"}
	computing = run{way: ours, job: load{mib: gib, spin: true}, flags: "--force"}
	weighed   = run{way: ours, job: load{mib: gib}, flags: "--force", watched: true}
)

// by is the same job on another way.
func (r run) by(w way) run { return run{way: w, job: r.job} }

var rows = []row{
	{"downtime-podman-1GiB", "downtime of the job of 1 GiB: migrate move, podman checkpoint and restore", atMost(1.0 / 25), inSeconds,
		downtimeOf(medium), downtimeOf(medium.by(podman)), 0},
	{"downtime-podman-8GiB", "the same with 8 GiB", atMost(1.0 / 60), inSeconds,
		downtimeOf(large), downtimeOf(large.by(podman)), 1},
	{"downtime-growth", "what each GiB from 0.25 to 8 adds to the downtime, and what it may add", atMost(1), inSecondsPerGiB,
		growth(small, large), limit(0.12), 1},
	{"downtime-pipe-1GiB", "downtime of the job of 1 GiB: migrate move, the pipe", goal{}, inSeconds,
		downtimeOf(medium), downtimeOf(medium.by(pipe)), 0},
	{"total-1GiB", "until the job runs and all of its memory is in place: migrate move --stop-copy, the pipe", atMost(1.0 / 3), inSeconds,
		total(stopped), total(stopped.by(pipe)), 0},
	{"wire-1GiB", "bytes sent, and the job's size: a third each is floating-point numbers, text, and zeros", atMost(1.0 / 2), inBytes,
		sent(fields), resident(fields), 0},
	{"loop-rate", "rate of the job's own loop during the warm-up, and right before the move; the target, on the same cores, gives way", atLeast(0.95), perSecond,
		loopWarm(computing), loopBefore(computing), 0},
	{"source-memory", "peak of the source's agent with a job of 1 GiB, and what it may be", atMost(1), inBytes,
		sourcePeak(weighed), limit(64 << 20), 0},
	{"target-memory", "peak of the target, all together, with a job of 1 GiB, and the job's size", atMost(1.1), inBytes,
		targetPeak(weighed), resident(weighed), 0},
}

func limit(v float64) quantity {
	return func(context.Context, *bench, int) (float64, error) { return v, nil }
}

func of(r run, take func(moved) float64) quantity {
	return func(ctx context.Context, b *bench, round int) (float64, error) {
		m, err := b.get(ctx, r, round)
		return take(m), err
	}
}

func downtimeOf(r run) quantity { return of(r, func(m moved) float64 { return m.downtime.Seconds() }) }
func total(r run) quantity      { return of(r, func(m moved) float64 { return m.total.Seconds() }) }
func sent(r run) quantity       { return of(r, func(m moved) float64 { return float64(m.sent) }) }
func resident(r run) quantity   { return of(r, func(m moved) float64 { return float64(m.rss) }) }
func sourcePeak(r run) quantity {
	return of(r, func(m moved) float64 { return float64(m.source) })
}
func targetPeak(r run) quantity {
	return of(r, func(m moved) float64 { return float64(m.target.total()) })
}

// growth is the downtime that a GiB adds.
func growth(from, to run) quantity {
	return func(ctx context.Context, b *bench, round int) (float64, error) {
		mib := b.sized(to).job.mib - b.sized(from).job.mib
		if mib <= 0 {
			return 0, cannot("BENCH_MEM leaves no difference in size")
		}
		less, err := downtimeOf(from)(ctx, b, round)
		if err != nil {
			return 0, err
		}
		more, err := downtimeOf(to)(ctx, b, round)
		return (more - less) * gib / float64(mib), err
	}
}

// loopBefore and loopWarm are rates of the job's loop.
func loopBefore(r run) quantity { return loop(r, func(m moved) float64 { return m.loopBefore }) }
func loopWarm(r run) quantity   { return loop(r, func(m moved) float64 { return m.loopWarm }) }

func loop(r run, take func(moved) float64) quantity {
	return func(ctx context.Context, b *bench, round int) (float64, error) {
		m, err := b.get(ctx, r, round)
		if err == nil && take(m) == 0 {
			err = cannot("the warm-up was too short to tell a rate")
		}
		return take(m), err
	}
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
