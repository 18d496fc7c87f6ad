package converge

import (
	"fmt"
	"time"
)

// Limits is what the operator allows.
type Limits struct {
	Downtime time.Duration // the longest downtime
	Named    bool          // by the operator, so that it is kept to the letter
	Throttle bool          // the job may be slowed down
	PostCopy bool          // memory may be pulled after the commit
	Force    bool          // any downtime is taken
}

// Costs is what a freeze takes of any job, apart from what it has written.
type Costs struct {
	Base       time.Duration // of any job
	Pin        float64       // seconds per byte of memory, for CRIU's walk over it
	Processors int           // of the node; CRIU walks on one
}

// Round is what was measured in a warm-up round. Sizes are bytes.
type Round struct {
	Took     time.Duration
	Interval time.Duration // since the round before began; 0 in the first
	Memory   int64         // that exists
	Compared int64         // of it what was read and compared
	Dirty    int64         // of it what had changed
	Reading  time.Duration // of Took, spent on looking
	Waiting  time.Duration // of Took, spent on nothing: the job had the processors
	Scanning time.Duration // what looking would have taken with all processors
}

// Step is what comes next.
type Step string

// The steps.
const (
	Again    Step = "again"
	Freeze   Step = "freeze"
	Throttle Step = "throttle" // slow the job to Verdict.CPU, then again
	PostCopy Step = "post-copy"
	GiveUp   Step = "give up"
)

// Verdict is a step, the forecast behind it, and the reason in words.
type Verdict struct {
	Step      Step
	Forecast  time.Duration // downtime of a freeze now
	Least     time.Duration // of it what no round can change
	CPU       int64         // per cent of its cpu time that the job may use from now on
	FullSpeed bool          // from now on rounds need not give way to the job
	Reason    string
}

// Plan is the state of one warm-up.
type Plan struct {
	limits   Limits
	costs    Costs
	rounds   int
	cpu      int64
	sendRate float64 // bytes per second
	scanRate float64
	best     time.Duration // the shortest forecast so far at this speed of the job
	stalled  int           // rounds in a row that gained little
	hurry    bool
}

const (
	maxRounds = 40
	// little is the part of the forecast by which a round must shorten it to be worth
	// another.
	little = 0.10
	// minSample is how much must have been sent for its time to tell a rate.
	minSample = 4 << 20
	leastCPU  = 5
	slack     = 100 * time.Millisecond
)

// New begins a plan. The job runs at full speed.
func New(l Limits, c Costs) *Plan { return &Plan{limits: l, costs: c, cpu: 100} }

// After decides what follows a round.
func (p *Plan) After(r Round) Verdict {
	p.rounds++
	p.learn(r)
	v := p.forecast(r)
	limit := p.limit(v)
	gained := p.best == 0 || float64(v.Forecast) < float64(p.best)*(1-little)
	if gained {
		p.best, p.stalled = v.Forecast, 0
	} else {
		p.stalled++
	}
	v.CPU = p.cpu
	p.choose(&v, limit, gained, r.Waiting > r.Took/2)
	v.FullSpeed = p.hurry
	return v
}

func (p *Plan) choose(v *Verdict, limit time.Duration, gained, starved bool) {
	within := v.Forecast <= limit
	rest := v.Forecast - v.Least
	switch {
	case within && (rest <= limit/10 || !gained):
		v.say(Freeze, "forecast %s is within %s", round(v.Forecast), round(limit))
	case p.rounds >= maxRounds && within:
		v.say(Freeze, "forecast %s is within %s after %d rounds", round(v.Forecast), round(limit), p.rounds)
	case within:
		v.say(Again, "forecast %s is within %s, and rounds still shorten it", round(v.Forecast), round(limit))
	case starved && !p.hurry && p.rounds > 1:
		p.hurry, p.best, p.stalled = true, 0, 0
		v.say(Again, "forecast %s is above %s: rounds give way to the job no longer", round(v.Forecast), round(limit))
	case p.stalled < 2 && p.rounds < maxRounds:
		v.say(Again, "forecast %s is above %s", round(v.Forecast), round(limit))
	default:
		p.diverge(v, limit)
	}
}

// diverge is for a job that writes faster than rounds can follow.
func (p *Plan) diverge(v *Verdict, limit time.Duration) {
	why := fmt.Sprintf("forecast %s stays above %s", round(v.Forecast), round(limit))
	if v.Least > limit {
		why = fmt.Sprintf("freeze alone needs %s, above %s", round(v.Least), round(limit))
	}
	switch {
	case p.limits.Throttle && p.cpu > leastCPU && v.Least <= limit && p.rounds < 2*maxRounds:
		p.cpu = max(p.cpu/2, leastCPU)
		p.best, p.stalled, v.CPU = 0, 0, p.cpu
		v.say(Throttle, "%s: the job is slowed down to %d %% of its cpu time", why, p.cpu)
	case p.limits.PostCopy:
		v.say(PostCopy, "%s: what is missing is pulled after the commit", why)
	case p.limits.Force:
		v.say(Freeze, "%s: taken, as told", why)
	default:
		v.say(GiveUp, "%s", why)
	}
}

func (v *Verdict) say(s Step, format string, args ...any) {
	v.Step, v.Reason = s, fmt.Sprintf(format, args...)
}

// limit is the downtime to keep to.
func (p *Plan) limit(v Verdict) time.Duration {
	if p.limits.Named {
		return p.limits.Downtime
	}
	return max(p.limits.Downtime, v.Least+slack)
}

// learn takes the rates from a round that had enough to do. They are those of a node
// whose processors are free, as they are when the job is frozen.
func (p *Plan) learn(r Round) {
	if sending := r.Took - r.Reading - r.Waiting; r.Dirty >= minSample && sending > 0 {
		p.sendRate = float64(r.Dirty) / sending.Seconds()
	}
	if r.Compared >= minSample && r.Scanning > 0 {
		p.scanRate = float64(r.Compared) / r.Scanning.Seconds()
	}
}

// forecast includes a look at all memory. It goes on while CRIU walks over the memory, on the
// processors that CRIU leaves.
func (p *Plan) forecast(r Round) Verdict {
	walk := seconds(p.costs.Pin * float64(r.Memory))
	looking := walk/time.Duration(max(1, p.costs.Processors)) + ratio(r.Memory, p.scanRate)
	sending := ratio(p.residue(r), p.sendRate)
	return Verdict{Least: p.costs.Base + max(walk, looking), Forecast: p.costs.Base + max(walk, looking+sending)}
}

// residue is how much will have changed since it was sent, in bytes.
func (p *Plan) residue(r Round) int64 {
	if r.Interval <= 0 { // nothing is known about what the job writes
		return r.Memory
	}
	n := float64(r.Dirty) * r.Took.Seconds() / r.Interval.Seconds()
	return min(int64(n), r.Memory)
}

func ratio(size int64, rate float64) time.Duration {
	if rate <= 0 {
		return 0
	}
	return seconds(float64(size) / rate)
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

func round(d time.Duration) time.Duration { return d.Round(time.Millisecond) }
