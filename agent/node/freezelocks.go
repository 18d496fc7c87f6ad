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
	jobs map[job.ID]*freezeLock // those that somebody is at
}

type freezeLock struct {
	sem  *semaphore.Weighted // in the order of coming: a freeze is not overtaken for ever
	refs int                 // who holds or waits for it; of gates.mu
}

// exclusive is all the room of a gate.
const exclusive = math.MaxInt64

// SharedLockTime is how long what goes through a gate may hold up a freeze.
const SharedLockTime = 2 * time.Second

// LockShared lets the caller reach the job until done is called.
func (g *FreezeLocks) LockShared(ctx context.Context, id job.ID) (done func(), err error) {
	return g.lock(ctx, id, 1)
}

// LockExclusive waits until nobody reaches the job, and lets nobody until open is called.
func (g *FreezeLocks) LockExclusive(ctx context.Context, id job.ID) (open func(), err error) {
	open, err = g.lock(ctx, id, exclusive)
	if err != nil {
		return nil, fmt.Errorf("a signal to the job has not got through yet: %w", err)
	}
	return open, nil
}

func (g *FreezeLocks) lock(ctx context.Context, id job.ID, n int64) (func(), error) {
	of := g.ref(id)
	if err := of.sem.Acquire(ctx, n); err != nil {
		g.unref(id)
		return nil, context.Cause(ctx)
	}
	return func() {
		of.sem.Release(n)
		g.unref(id)
	}, nil
}

func (g *FreezeLocks) ref(id job.ID) *freezeLock {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.jobs == nil {
		g.jobs = map[job.ID]*freezeLock{}
	}
	of := g.jobs[id]
	if of == nil {
		of = &freezeLock{sem: semaphore.NewWeighted(exclusive)}
		g.jobs[id] = of
	}
	of.refs++
	return of
}

func (g *FreezeLocks) unref(id job.ID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	of := g.jobs[id]
	if of.refs--; of.refs == 0 {
		delete(g.jobs, id)
	}
}
