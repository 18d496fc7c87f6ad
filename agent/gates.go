package agent

import (
	"context"
	"fmt"
	"math"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/migrate-hpc/migrate/job"
)

// gates keep apart what reaches a job and its freeze. A signal that comes to a job that
// CRIU has looked at already is known to nobody but the copy that will be dropped. Jobs
// do not wait for each other, and nobody waits longer than their context says.
type gates struct {
	mu   sync.Mutex
	jobs map[job.ID]*gate // those that somebody is at
}

type gate struct {
	room *semaphore.Weighted // in the order of coming: a freeze is not overtaken for ever
	at   int                 // who holds or waits for it; of gates.mu
}

// whole is all the room of a gate.
const whole = math.MaxInt64

// passTime is how long what goes through a gate may hold up a freeze.
const passTime = 2 * time.Second

// pass lets the caller reach the job until done is called.
func (g *gates) pass(ctx context.Context, id job.ID) (done func(), err error) {
	return g.take(ctx, id, 1)
}

// shut waits until nobody reaches the job, and lets nobody until open is called.
func (g *gates) shut(ctx context.Context, id job.ID) (open func(), err error) {
	open, err = g.take(ctx, id, whole)
	if err != nil {
		return nil, fmt.Errorf("a signal to the job has not got through yet: %w", err)
	}
	return open, nil
}

func (g *gates) take(ctx context.Context, id job.ID, n int64) (func(), error) {
	of := g.come(id)
	if err := of.room.Acquire(ctx, n); err != nil {
		g.leave(id)
		return nil, context.Cause(ctx)
	}
	return func() {
		of.room.Release(n)
		g.leave(id)
	}, nil
}

func (g *gates) come(id job.ID) *gate {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.jobs == nil {
		g.jobs = map[job.ID]*gate{}
	}
	of := g.jobs[id]
	if of == nil {
		of = &gate{room: semaphore.NewWeighted(whole)}
		g.jobs[id] = of
	}
	of.at++
	return of
}

func (g *gates) leave(id job.ID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	of := g.jobs[id]
	if of.at--; of.at == 0 {
		delete(g.jobs, id)
	}
}
