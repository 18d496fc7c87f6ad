package restore

import (
	"context"
	"errors"
	"time"

	"github.com/migrate-hpc/migrate/carry"
	"github.com/migrate-hpc/migrate/logkey"
)

// mendTime bounds how long threads may take to stop, and what they do then.
const mendTime = 5 * time.Second

// prepareMend is called when the job is parked. CRIU works in the job's cgroup, and must not be
// frozen with it.
func (p *Parked) prepareMend(criuPID int) error {
	p.menders = carry.MendersOf(p.carried)
	for _, r := range p.carried {
		if w, ok := r.(carry.Waiter); ok && w.Waits() {
			p.waiters = append(p.waiters, w)
		}
	}
	if p.holds = len(p.menders)+len(p.waiters) > 0; !p.holds {
		return nil
	}
	return p.plan.RestoreEnv.Cgroup.StepUp(criuPID)
}

// freezeToMend keeps the job from running when CRIU lets go of it. The tasks are stopped by CRIU as
// yet. After an error the job must not run; where it may, unmended, there is none.
func (p *Parked) freezeToMend(ctx context.Context) error {
	if !p.holds {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, mendTime)
	defer cancel()
	err := p.plan.RestoreEnv.Cgroup.Freeze(ctx)
	if err != nil && !p.Waits() { // no mend: what still runs could keep us from seizing a thread
		p.holds = false
		p.logUnmended(errors.Join(err, p.plan.RestoreEnv.Cgroup.Thaw(context.WithoutCancel(ctx))))
		return nil
	}
	return err
}

// Waits tells whether a job that was resumed stays frozen until LetRun.
func (p *Parked) Waits() bool { return len(p.waiters) > 0 }

// LetRun waits for what the copy on the source has until it ends, and has the job run. After an error
// the job must not run.
func (p *Parked) LetRun(ctx context.Context) error {
	for _, w := range p.waiters {
		if err := w.Wait(ctx); err != nil {
			return err
		}
	}
	p.mend()
	return nil
}

// mend changes threads from within and has the job run. It is the job's only copy: it runs whatever
// fails.
func (p *Parked) mend() {
	if !p.holds {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(p.ctx), mendTime)
	defer cancel()
	err := p.menders.Mend(ctx, p.plan.RestoreEnv.Cgroup, p.init.Pid, func() error { return p.plan.RestoreEnv.Cgroup.Thaw(ctx) })
	if err != nil {
		p.logUnmended(err)
	}
}

func (p *Parked) logUnmended(err error) {
	p.log.Error("the job runs, but lacks some of what it had", logkey.Err, err)
}
