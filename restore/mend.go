package restore

import (
	"context"
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
	if len(p.menders) == 0 {
		return nil
	}
	return p.plan.RestoreEnv.Cgroup.StepUp(criuPID)
}

// freezeToMend keeps the job from running when CRIU lets go of it. The tasks are stopped by CRIU as
// yet. After an error the job runs on unmended.
func (p *Parked) freezeToMend(ctx context.Context) {
	if len(p.menders) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, mendTime)
	defer cancel()
	if err := p.plan.RestoreEnv.Cgroup.Freeze(ctx); err != nil {
		p.logUnmended(err)
	}
}

// mend changes threads from within and has the job run. It is the job's only copy: it runs whatever
// fails.
func (p *Parked) mend() {
	if len(p.menders) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(p.ctx), mendTime)
	defer cancel()
	err := p.menders.Mend(ctx, p.init.Pid, func() error { return p.plan.RestoreEnv.Cgroup.Thaw(ctx) })
	if err != nil {
		p.logUnmended(err)
	}
}

func (p *Parked) logUnmended(err error) {
	p.log.Error("the job runs, but lacks some of what it had", logkey.Err, err)
}
