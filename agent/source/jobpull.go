package source

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/peer"
	"github.com/migrate-hpc/migrate/checkpoint/scan"
	"github.com/migrate-hpc/migrate/handoff"
)

// beginPull starts to answer what the target lacks, unless that is under way.
func (d *Job) beginPull() {
	if d.pull != nil {
		return
	}
	ctx, cancel := context.WithCancelCause(d.A.Life)
	p := &pull{cancel: cancel, done: make(chan struct{})}
	p.pulling = pulling{a: d.A, peer: &peer.Client{A: d.A.Node, Node: d.To.Node, Addr: d.To.Addr, Move: handoff.MoveID(filepath.Base(d.dir))},
		open: d.openPuller, pulled: &d.Pulled, sent: &d.PullSent, limit: d.Bandwidth, missing: make(chan struct{})}
	d.pull = p
	go func() {
		defer close(p.done)
		p.err = p.run(ctx)
	}()
}

// awaitPull waits until the target has every page.
func (d *Job) awaitPull(ctx context.Context) error {
	d.beginPull()
	missing := d.pull.missing
	for {
		select {
		case <-missing:
			d.tell.Enter(api.PhasePull, "")
			missing = nil
		case <-d.pull.done:
			return d.pull.err
		case <-ctx.Done():
			d.endPull()
			return context.Cause(ctx)
		}
	}
}

// endPull stops it, if it was begun.
func (d *Job) endPull() {
	if d.pull != nil {
		d.pull.cancel(errors.New("the pull was given up"))
		<-d.pull.done
		d.pull = nil
	}
}

// openPuller fails with errLost only if it is proven that no task is left to read.
func (d *Job) openPuller() (*scan.Puller, error) {
	p, err := d.Src.Puller()
	if err == nil {
		return p, nil
	}
	if pids, listErr := d.Src.Cgroup.Pids(); listErr == nil && len(pids) == 0 {
		return nil, fmt.Errorf("%w: %w", errLost, err)
	}
	return nil, err
}
