package node

import (
	"context"
	"fmt"
	"math"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/migrate-hpc/migrate/job"
)

// FreezeLocks keep apart what reaches a job and its freeze. A signal that comes to a job that
// CRIU has looked at already is known to nobody but the copy that will be dropped. Jobs
// do not wait for each other, and nobody waits longer than their context says.
type FreezeLocks struct {
	mu   sync.Mutex
	Jobs map[job.ID]*freezeLock // those that somebody is at
}

type freezeLock struct {
	room *semaphore.Weighted // in the order of coming: a freeze is not overtaken for ever
	at   int                 // who holds or waits for it; of gates.mu
}

// whole is all the room of a gate.
const whole = math.MaxInt64

// PassTime is how long what goes through a gate may hold up a freeze.
const PassTime = 2 * time.Second

// Pass lets the caller reach the job until done is called.
func (g *FreezeLocks) Pass(ctx context.Context, id job.ID) (done func(), err error) {
	return g.take(ctx, id, 1)
}

// Shut waits until nobody reaches the job, and lets nobody until open is called.
func (g *FreezeLocks) Shut(ctx context.Context, id job.ID) (open func(), err error) {
	open, err = g.take(ctx, id, whole)
	if err != nil {
		return nil, fmt.Errorf("a signal to the job has not got through yet: %w", err)
	}
	return open, nil
}

func (g *FreezeLocks) take(ctx context.Context, id job.ID, n int64) (func(), error) {
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

func (g *FreezeLocks) come(id job.ID) *freezeLock {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.Jobs == nil {
		g.Jobs = map[job.ID]*freezeLock{}
	}
	of := g.Jobs[id]
	if of == nil {
		of = &freezeLock{room: semaphore.NewWeighted(whole)}
		g.Jobs[id] = of
	}
	of.at++
	return of
}

func (g *FreezeLocks) leave(id job.ID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	of := g.Jobs[id]
	if of.at--; of.at == 0 {
		delete(g.Jobs, id)
	}
}
