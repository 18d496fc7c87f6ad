package transfer

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/source"
	"github.com/migrate-hpc/migrate/checkpoint/converge"
	"github.com/migrate-hpc/migrate/checkpoint/scan"
)

// freezeCosts is what a freeze takes on the machines that were measured, whatever
// the job writes; docs/performance.md has the breakdown.
var freezeCosts = converge.Costs{Base: 200 * time.Millisecond, Pin: 0.1 / (1 << 30), Processors: runtime.GOMAXPROCS(0)}

// eagerPin is what all memory takes on its way through CRIU's images: written, put
// together on the target, and read.
const eagerPin = 3.0 / (1 << 30)

// warmUp sends memory, round by round, while the job runs, until the rest is small
// enough to stand still for. It leaves in the operation how the move is to end.
func (m *moveOp) warmUp(ctx context.Context) error {
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
	brake := &source.Brake{Job: m.dep}
	proceed := m.a.Priority.WarmUp()
	defer proceed()
	var last time.Time
	for n := 1; ; n++ {
		began := time.Now()
		r, err := m.dep.Src.PreCopy(ctx, m.dep.Out)
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
		m.dep.Forecast = v.Forecast
		m.tell.Round(toldRound(api.Round{Number: n, Began: began, Tracking: m.dep.Src.Tracking()}, r, seen, v))
		if v.FullSpeed {
			proceed()
			m.dep.Src.FullSpeed = true
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
			if err := brake.Set(ctx, v.CPU); err != nil {
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
func (m *moveOp) tooLong(rounds int, v converge.Verdict) error {
	hint := "`migrate move --throttle` slows the job down meanwhile, `--post-copy` pulls the rest after the commit; or name a larger `--max-downtime`, or `--force`"
	if v.Least > m.req.MaxDowntime && m.req.MaxDowntime > 0 {
		hint = fmt.Sprintf("what has to be done during the downtime takes %s by itself: `migrate move --max-downtime` with more than that, or `migrate move --force`", v.Least.Round(time.Millisecond))
	}
	return &api.Error{Code: api.CodeAborted, Message: fmt.Sprintf("the downtime would be too long: after %d rounds the %s", rounds, v.Reason),
		Where: "on " + m.a.Config.Node + ", running, never stopped", Hint: hint}
}
