package handoff

import (
	"context"
	"errors"
	"fmt"
)

// ErrRunning says that this agent is working on the move already.
var ErrRunning = errors.New("the agent is working on this move")

var errOperatorDecides = errors.New("an operator decides this move")

// ErrTaken says that operators took the job on both nodes.
var ErrTaken = errors.New("an operator took the job on this node, too: end one of the two")

// run is one engine at work on the source's side of a move.
type run struct {
	cancel context.CancelCauseFunc
	done   chan struct{}
	taking bool // an operator takes the job: from now on the peer must not hear of a commit
}

// claim lets one engine at a time work on a move, until release. It fails with ErrRunning.
func (j *Journal) claim(ctx context.Context, m MoveID, taking bool) (_ context.Context, release func(), err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if _, ok := j.runs[m]; ok {
		return nil, nil, fmt.Errorf("move %s: %w", m, ErrRunning)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	r := &run{cancel: cancel, done: make(chan struct{}), taking: taking}
	j.runs[m] = r
	return ctx, func() {
		cancel(nil)
		j.mu.Lock()
		delete(j.runs, m)
		j.mu.Unlock()
		close(r.done)
	}, nil
}

// beingTaken tells whether an operator is taking the job here.
func (j *Journal) beingTaken(m MoveID) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	r := j.runs[m]
	return r != nil && r.taking
}

// interrupt ends the engine that works on a move, if any, and waits for it.
func (j *Journal) interrupt(ctx context.Context, m MoveID) error {
	j.mu.Lock()
	r := j.runs[m]
	j.mu.Unlock()
	if r == nil {
		return nil
	}
	r.cancel(errOperatorDecides)
	select {
	case <-r.done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
