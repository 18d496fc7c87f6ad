package agent

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/checkpoint/converge"
	"github.com/migrate-hpc/migrate/checkpoint/scan"
	"github.com/migrate-hpc/migrate/namespaces"
)

// freezeCosts is what a freeze takes on the machines that were measured, whatever
// the job writes; docs/performance.md has the breakdown.
var freezeCosts = converge.Costs{Base: 200 * time.Millisecond, Pin: 0.1 / (1 << 30), Processors: runtime.GOMAXPROCS(0)}

// eagerPin is what all memory takes on its way through CRIU's images: written, put
// together on the target, and read.
const eagerPin = 3.0 / (1 << 30)

// warmUp sends memory, round by round, while the job runs, until the rest is small
// enough to stand still for. It leaves in the departure how the move is to end.
func (m *movement) warmUp(ctx context.Context) error {
	if m.req.StopCopy {
		m.mode = api.ModeStopCopy
		if m.req.PostCopy {
			m.mode = api.ModePostCopy
		}
		return nil
	}
	m.mode = api.ModePreCopy
	limits := converge.Limits{Downtime: m.req.MaxDowntime, Named: m.req.MaxDowntime > 0,
		Throttle: m.req.Throttle, PostCopy: m.req.PostCopy, Force: m.req.Force}
	if !limits.Named {
		limits.Downtime = api.DefaultMaxDowntime
	}
	costs := freezeCosts
	if m.req.Eager {
		costs.Pin = eagerPin
	}
	plan := converge.New(limits, costs)
	brake := &brake{m.dep}
	proceed := m.a.pace.warm()
	defer proceed()
	var last time.Time
	for n := 1; ; n++ {
		began := time.Now()
		r, err := m.dep.src.PreCopy(ctx, m.dep.out)
		if err != nil {
			return err
		}
		seen := converge.Round{Took: r.Took, Memory: r.Present, Compared: r.Compared, Dirty: r.Dirty,
			Reading: r.Reading, Waiting: r.Waiting, Scanning: r.Scanning}
		if n > 1 {
			seen.Interval = began.Sub(last)
		}
		last = began
		v := plan.After(seen)
		m.tell.round(toldRound(api.Round{Number: n, Began: began, Tracking: m.dep.src.Tracking()}, r, seen, v))
		if v.FullSpeed {
			proceed()
			m.dep.src.FullSpeed = true
		}
		switch v.Step {
		case converge.Freeze:
			return nil
		case converge.PostCopy:
			m.mode = api.ModePostCopy
			return nil
		case converge.GiveUp:
			return m.tooLong(n, v)
		case converge.Throttle:
			if err := brake.set(ctx, v.CPU); err != nil {
				return err
			}
		}
	}
}

// toldRound is a round as users see it; out has what the round itself does not know.
func toldRound(out api.Round, r scan.Round, seen converge.Round, v converge.Verdict) api.Round {
	out.Took, out.Scanned, out.Dirty, out.Zero, out.Duplicate, out.Wire = r.Took, r.Compared, r.Dirty, r.Zero, r.Duplicate, r.Wire
	out.Forecast, out.CPU, out.Reason = v.Forecast, v.CPU, v.Reason
	if r.Waiting > r.Took/2 {
		out.Reason += "; the processors are busy, and the warm-up took turns with jobs"
	}
	if s := seen.Interval.Seconds(); s > 0 {
		out.DirtyRate = float64(r.Dirty) / s
	}
	if s := r.Reading.Seconds(); s > 0 {
		out.ReadRate = float64(r.Compared) / s
	}
	if s := r.Took.Seconds(); s > 0 {
		out.WireRate = float64(r.Wire) / s
	}
	return out
}

// tooLong is the error of a warm-up that does not converge.
func (m *movement) tooLong(rounds int, v converge.Verdict) error {
	hint := "`migrate move --throttle` slows the job down meanwhile, `--post-copy` pulls the rest after the commit; or name a larger `--max-downtime`, or `--force`"
	if v.Least > m.req.MaxDowntime && m.req.MaxDowntime > 0 {
		hint = fmt.Sprintf("what has to be done during the downtime takes %s by itself: `migrate move --max-downtime` with more than that, or `migrate move --force`", v.Least.Round(time.Millisecond))
	}
	return &api.Error{Code: api.CodeAborted, Message: fmt.Sprintf("the downtime would be too long: after %d rounds the %s", rounds, v.Reason),
		Where: "on " + m.a.cfg.Node + ", running, never stopped", Hint: hint}
}

// brake slows a job down.
type brake struct{ dep *departure }

// set lets the job use so many per cent of the processor time that it uses when
// nothing holds it back.
func (b *brake) set(ctx context.Context, percent int64) error {
	d := b.dep
	if d.fullSpeed == 0 {
		milli, err := coresUsed(ctx, d)
		if err != nil {
			return fmt.Errorf("slow the job down: %w", err)
		}
		d.fullSpeed = milli
	}
	if err := d.src.Cgroup.SetCPU(max(1, d.fullSpeed*percent/100)); err != nil {
		return fmt.Errorf("slow the job down: %w", err)
	}
	return nil
}

// sampleTime is how long a job is watched to know what it uses.
const sampleTime = 200 * time.Millisecond

// coresUsed is the processor time that a job uses, in thousandths of a core.
func coresUsed(ctx context.Context, d *departure) (int64, error) {
	before, err := d.src.Cgroup.CPUTime()
	if err != nil {
		return 0, err
	}
	began := time.Now()
	select {
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	case <-time.After(sampleTime):
	}
	after, err := d.src.Cgroup.CPUTime()
	if err != nil {
		return 0, err
	}
	return max(10, (after-before)*1000/time.Since(began).Nanoseconds()), nil
}

// unthrottle gives the job back the speed that its specification allows.
func (d *departure) unthrottle() error {
	if d.fullSpeed == 0 {
		return nil // it was never slowed down
	}
	err := d.src.Cgroup.SetCPU(d.rec.Spec.Limits.CPUMilli)
	if err != nil {
		return fmt.Errorf("give the job its speed back: %w", err)
	}
	return nil
}

// unthrottleAll gives every job here its speed back: an agent that ended in the
// middle of a warm-up may have left one slowed down.
func (a *Agent) unthrottleAll() error {
	recs, err := a.jobs.List()
	errs := []error{err}
	for _, rec := range recs {
		if !rec.Here() || len(rec.Cgroup) == 0 {
			continue
		}
		if err := (&namespaces.Cgroup{Dirs: rec.Cgroup}).SetCPU(rec.Spec.Limits.CPUMilli); err != nil {
			errs = append(errs, fmt.Errorf("job %s: %w", rec.ID, err))
		}
	}
	return errors.Join(errs...)
}
