package main

import (
	"context"
	"errors"
	"fmt"
)

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
			logf("round %d, load %s, %v: downtime %.3f s", round+1, loadAverage(), r, m.downtime.Seconds())
		}
	}
	o := b.done[r][round]
	return o.moved, o.err
}

const tryMiB = 16

// try does it with a small job first where the way is new, so that no row pays for what
// is only done the first time, and no long run begins that cannot end.
func (b *bench) try(ctx context.Context, r run) (moved, error) {
	if err := b.works(ctx, r.way); err != nil {
		return moved{}, err
	}
	m, err := b.do(ctx, r)
	if err != nil {
		err = fmt.Errorf("%v: %w", r, err)
	}
	return m, err
}

func (b *bench) works(ctx context.Context, w way) error {
	err, known := b.tried[w]
	if known {
		return err
	}
	logf("%s: trying with a job of %d MiB", w, tryMiB)
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
