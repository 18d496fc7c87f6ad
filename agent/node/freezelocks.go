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

// FreezeLocks keep signals and the freeze of a job apart: one lock a job, shared for a signal,
// exclusive for a freeze. A signal that came after CRIU had looked would reach only the copy that
// is dropped. No wait is longer than its context.
type FreezeLocks struct {
	mu   sync.Mutex
	jobs map[job.ID]*freezeLock // those that are held or waited for
}

type freezeLock struct {
	sem  *semaphore.Weighted // first come, first served: signals do not overtake a freeze for ever
	refs int                 // holders and waiters; FreezeLocks.mu guards it
}

// exclusive is the weight that leaves room for no other holder.
const exclusive = math.MaxInt64

// SharedLockTime bounds how long a signal may hold up a freeze.
const SharedLockTime = 2 * time.Second

// LockShared keeps the job from being frozen until done is called. It fails with the cause of ctx.
func (g *FreezeLocks) LockShared(ctx context.Context, id job.ID) (done func(), err error) {
	return g.lock(ctx, id, 1)
}

// LockExclusive waits for signals under way, and keeps others off until open is called.
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
