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

// beginPull starts to serve pages that the target lacks, unless it already does.
func (j *Job) beginPull() {
	if j.pull != nil {
		return
	}
	ctx, cancel := context.WithCancelCause(j.sources.Life)
	p := &pull{cancel: cancel, done: make(chan struct{})}
	p.pulling = pulling{sources: j.sources, peer: &peer.Client{Local: j.sources.Node, Node: j.To.Node, Addr: j.To.Addr, Move: handoff.MoveID(filepath.Base(j.dir))},
		open: j.openPuller, pulled: &j.Pulled, sent: &j.PullSent, limit: j.Bandwidth, missing: make(chan struct{})}
	j.pull = p
	go func() {
		defer close(p.done)
		p.err = p.run(ctx)
	}()
}

// awaitPull waits until the target has every page.
func (j *Job) awaitPull(ctx context.Context) error {
	j.beginPull()
	missing := j.pull.missing
	for {
		select {
		case <-missing:
			j.progress.Enter(api.PhasePull, "")
			missing = nil
		case <-j.pull.done:
			return j.pull.err
		case <-ctx.Done():
			j.endPull()
			return context.Cause(ctx)
		}
	}
}

// endPull stops the pull, if it was begun.
func (j *Job) endPull() {
	if j.pull != nil {
		j.pull.cancel(errors.New("the pull was given up"))
		<-j.pull.done
		j.pull = nil
	}
}

// openPuller fails with errLost only if no task is left to read from.
func (j *Job) openPuller() (*scan.Puller, error) {
	p, err := j.Src.Puller()
	if err == nil {
		return p, nil
	}
	if pids, listErr := j.Src.Cgroup.Pids(); listErr == nil && len(pids) == 0 {
		return nil, fmt.Errorf("%w: %w", errLost, err)
	}
	return nil, err
}
