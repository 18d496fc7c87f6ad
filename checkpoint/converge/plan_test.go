package converge

import (
	"strings"
	"testing"
	"time"
)

const (
	mib = int64(1) << 20
	gib = int64(1) << 30
)

// writer is a job on a node: how it writes, and what the node can do.
type writer struct {
	memory  int64
	hot     int64   // bytes that it writes over and over
	rate    float64 // bytes of it per second, at full speed
	wire    float64 // bytes per second
	read    float64
	tracked bool // rounds look at what was written alone
}

// warm runs rounds until the plan ends them. It returns the last verdict, the downtime of a freeze
// then, and the number of rounds.
func (w writer) warm(t *testing.T, p *Plan, c Costs) (Verdict, time.Duration, int) {
	t.Helper()
	cpu, stale := int64(100), w.memory
	var before time.Duration
	for n := 1; n <= 200; n++ {
		look := w.memory
		if w.tracked && n > 1 {
			look = stale
		}
		reading := ratio(look, w.read)
		took := reading + ratio(stale, w.wire) + time.Millisecond
		v := p.After(Round{Took: took, Interval: before, Memory: w.memory, Compared: look, Dirty: stale, Reading: reading, Scanning: reading})
		before = took
		stale = min(w.hot, int64(w.rate*float64(cpu)/100*took.Seconds()))
		if v.Step == Throttle {
			if v.CPU >= cpu {
				t.Fatalf("round %d: throttled from %d %% to %d %%", n, cpu, v.CPU)
			}
			cpu = v.CPU
			continue
		}
		if v.Step != Again {
			return v, c.Base + max(seconds(c.Pin*float64(w.memory)), ratio(w.memory, w.read)+ratio(stale, w.wire)), n
		}
	}
	t.Fatal("the warm-up never ends")
	return Verdict{}, 0, 0
}

var usual = Costs{Base: 100 * time.Millisecond, Pin: 0.1 / float64(gib), Processors: 8}

func TestAQuietJobIsFrozenSoonAndAsForecast(t *testing.T) {
	for _, tracked := range []bool{false, true} {
		w := writer{memory: gib, hot: gib / 100, rate: float64(10 * mib), wire: 5e8, read: 4e9, tracked: tracked}
		v, downtime, n := w.warm(t, New(Limits{Downtime: 400 * time.Millisecond, Named: true}, usual), usual)
		if v.Step != Freeze || n > 5 || downtime > 400*time.Millisecond {
			t.Errorf("tracked %v: %s after %d rounds (%s), downtime %v", tracked, v.Step, n, v.Reason, downtime)
		}
		if diff := (v.Forecast - downtime).Abs(); diff > 100*time.Millisecond {
			t.Errorf("tracked %v: forecast %v, downtime %v", tracked, v.Forecast, downtime)
		}
	}
}

func TestAJobThatNeverConvergesIsLeftAloneUnlessMoreIsAllowed(t *testing.T) {
	w := writer{memory: gib, hot: gib, rate: 2e9, wire: 2e8, read: 1e10, tracked: true}
	for _, c := range []struct {
		allowed Limits
		want    Step
	}{
		{Limits{}, GiveUp},
		{Limits{PostCopy: true}, PostCopy},
		{Limits{Force: true}, Freeze},
		{Limits{PostCopy: true, Force: true}, PostCopy},
	} {
		c.allowed.Downtime = 300 * time.Millisecond
		v, _, n := w.warm(t, New(c.allowed, usual), usual)
		if v.Step != c.want || n > 10 || !strings.Contains(v.Reason, "stays above") {
			t.Errorf("%+v: %s after %d rounds: %s", c.allowed, v.Step, n, v.Reason)
		}
	}
}

func TestAThrottledJobConverges(t *testing.T) {
	w := writer{memory: gib, hot: gib / 2, rate: 4e8, wire: 3e8, read: 1e10, tracked: true}
	limits := Limits{Downtime: 300 * time.Millisecond, Named: true, Throttle: true}
	v, downtime, _ := w.warm(t, New(limits, usual), usual)
	if v.Step != Freeze || downtime > 300*time.Millisecond || v.CPU >= 100 {
		t.Errorf("%s at %d %%: %s; downtime %v", v.Step, v.CPU, v.Reason, downtime)
	}
}

func TestThrottlingEndsWhereItCannotHelp(t *testing.T) {
	w := writer{memory: gib, hot: gib, rate: 1e12, wire: 1e8, read: 1e10, tracked: true}
	v, _, _ := w.warm(t, New(Limits{Downtime: 300 * time.Millisecond, Throttle: true}, usual), usual)
	if v.Step != GiveUp || v.CPU != leastCPU {
		t.Errorf("%s at %d %%: %s", v.Step, v.CPU, v.Reason)
	}
}

func TestWhatTheFreezeNeedsByItselfCountsAgainstANamedLimitOnly(t *testing.T) {
	slow := Costs{Base: time.Second}
	w := writer{memory: gib, hot: mib, rate: float64(mib), wire: 5e8, read: 1e10, tracked: true}
	limits := Limits{Downtime: 300 * time.Millisecond}
	if v, _, _ := w.warm(t, New(limits, slow), slow); v.Step != Freeze {
		t.Errorf("by default: %s: %s", v.Step, v.Reason)
	}
	limits.Named, limits.Throttle = true, true
	if v, _, _ := w.warm(t, New(limits, slow), slow); v.Step != GiveUp || !strings.Contains(v.Reason, "alone needs 1") {
		t.Errorf("named: %s: %s", v.Step, v.Reason)
	}
}

func TestAJobWithoutMemoryIsFrozenAtOnce(t *testing.T) {
	v := New(Limits{Downtime: 300 * time.Millisecond}, usual).After(Round{Took: time.Millisecond})
	if v.Step != Freeze {
		t.Errorf("%s: %s", v.Step, v.Reason)
	}
}

func TestAfterOneRoundNothingIsKnownOfWhatTheJobWrites(t *testing.T) {
	p := New(Limits{Downtime: 300 * time.Millisecond}, usual)
	v := p.After(Round{Took: 2 * time.Second, Memory: gib, Compared: gib, Dirty: gib, Reading: time.Second, Scanning: time.Second})
	if v.Step != Again || v.Forecast < 2*time.Second {
		t.Errorf("%s with a forecast of %v", v.Step, v.Forecast)
	}
}

func TestAJobThatKeepsTheProcessorsBusyIsForecastAsIfItDidNot(t *testing.T) {
	idle, busy := New(Limits{Downtime: time.Second, Named: true}, usual), New(Limits{Downtime: time.Second, Named: true}, usual)
	var calm, starved Verdict
	for n := range 3 {
		r := Round{Took: 2 * time.Second, Memory: gib, Compared: gib, Dirty: gib / 100, Reading: 1900 * time.Millisecond, Scanning: time.Second / 4}
		if n > 0 {
			r.Interval = 2 * time.Second
		}
		calm = idle.After(r)
		r.Took, r.Interval, r.Waiting = 20*r.Took, 20*r.Interval, 19*r.Took
		starved = busy.After(r)
	}
	if calm.Step != Freeze || starved.Forecast != calm.Forecast {
		t.Errorf("%s after %v, and on a busy node %s after %v", calm.Step, calm.Forecast, starved.Step, starved.Forecast)
	}
}

// A round that takes long because it gives way leaves much for the next one.
func TestRoundsThatStarveGiveWayNoLonger(t *testing.T) {
	p := New(Limits{Downtime: 500 * time.Millisecond, Named: true}, usual)
	slow := Round{Took: 20 * time.Second, Memory: gib, Compared: gib, Dirty: gib, Reading: time.Second, Scanning: time.Second / 4, Waiting: 18 * time.Second}
	if v := p.After(slow); v.Step != Again || v.FullSpeed {
		t.Errorf("the first round is followed by %s, hurry %v", v.Step, v.FullSpeed)
	}
	slow.Interval = 20 * time.Second
	if v := p.After(slow); v.Step != Again || !v.FullSpeed {
		t.Errorf("the second is followed by %s, hurry %v: %s", v.Step, v.FullSpeed, v.Reason)
	}
	fast := Round{Took: 300 * time.Millisecond, Interval: 20 * time.Second, Memory: gib, Compared: gib, Dirty: gib / 2, Reading: 100 * time.Millisecond, Scanning: 100 * time.Millisecond}
	p.After(fast)
	fast.Interval, fast.Dirty = fast.Took, 8*mib
	if v := p.After(fast); v.Step != Freeze || !v.FullSpeed {
		t.Errorf("%s, hurry %v: %s", v.Step, v.FullSpeed, v.Reason)
	}
}
