package timens

import (
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"testing"
	"testing/quick"
	"time"
)

const year = 365 * 24 * time.Hour

// anyDuration favours the ends of the range, where arithmetic breaks.
func anyDuration(r *rand.Rand) time.Duration {
	edges := []time.Duration{math.MinInt64, math.MinInt64 + 1, -1, 0, 1, time.Duration(MaxClock) - 1,
		time.Duration(MaxClock), time.Duration(MaxClock) + 1, math.MaxInt64 - 1, math.MaxInt64}
	if r.IntN(3) == 0 {
		return edges[r.IntN(len(edges))]
	}
	return time.Duration(r.Uint64() >> r.IntN(64))
}

func anyReading(r *rand.Rand) Reading {
	return Reading{anyDuration(r), anyDuration(r), anyDuration(r)}
}

func forAll(t *testing.T, property func(r *rand.Rand) bool) {
	t.Helper()
	check := func(seed uint64) bool {
		if property(rand.New(rand.NewPCG(seed, 1))) {
			return true
		}
		t.Logf("seed %d", seed)
		return false
	}
	if err := quick.Check(check, &quick.Config{MaxCount: 20000}); err != nil {
		t.Error(err)
	}
}

func TestContinueNeverGoesBackwards(t *testing.T) {
	forAll(t, func(r *rand.Rand) bool {
		frozen, now := anyReading(r), anyReading(r)
		mono, boot := Continue(frozen, Mode(r.IntN(2)), now, anyDuration(r))
		return mono >= frozen.Monotonic && boot >= frozen.Boottime
	})
}

func TestContinueStaysInTheKernelsRange(t *testing.T) {
	forAll(t, func(r *rand.Rand) bool {
		frozen, now := anyReading(r), anyReading(r)
		mono, boot := Continue(frozen, Elapsed, now, anyDuration(r))
		return mono <= max(frozen.Monotonic, time.Duration(MaxClock)) &&
			boot <= max(frozen.Boottime, time.Duration(MaxClock))
	})
}

func TestContinuousStandsStillWhateverTheWallClocksSay(t *testing.T) {
	forAll(t, func(r *rand.Rand) bool {
		frozen := anyReading(r)
		mono, boot := Continue(frozen, Continuous, anyReading(r), anyDuration(r))
		return mono == frozen.Monotonic && boot == frozen.Boottime
	})
}

func TestElapsedIsTheTrueTimeAwayWhateverTheSkew(t *testing.T) {
	forAll(t, func(r *rand.Rand) bool {
		frozen := Reading{
			Monotonic: time.Duration(r.Int64N(int64(10 * year))),
			Boottime:  time.Duration(r.Int64N(int64(10 * year))),
			Realtime:  50*year + time.Duration(r.Int64N(int64(10*year))),
		}
		away := time.Duration(r.Int64N(int64(year)))
		skew := time.Duration(r.Int64N(int64(2*year))) - year
		now := Reading{Realtime: frozen.Realtime + away + skew}
		mono, boot := Continue(frozen, Elapsed, now, skew)
		return mono == frozen.Monotonic+away && boot == frozen.Boottime+away
	})
}

func TestOffsetsBringAboutExactlyTheWantedClocks(t *testing.T) {
	forAll(t, func(r *rand.Rand) bool {
		wantMono, wantBoot, host := anyDuration(r), anyDuration(r), anyReading(r)
		mono, boot, err := OffsetsFor(wantMono, wantBoot, host)
		if err != nil {
			outside := func(want, host time.Duration) bool {
				return want < 0 || want > time.Duration(MaxClock) || host < 0
			}
			return errors.Is(err, ErrRange) &&
				(outside(wantMono, host.Monotonic) || outside(wantBoot, host.Boottime))
		}
		got := host.In(mono, boot)
		return got.Monotonic == wantMono && got.Boottime == wantBoot
	})
}

func TestAMoveToAnyUptimeGoesOnAtTheFreeze(t *testing.T) {
	forAll(t, func(r *rand.Rand) bool {
		uptime := func() time.Duration { return time.Duration(r.Int64N(int64(20 * year))) }
		frozen := Reading{uptime(), uptime(), 50 * year}
		host := Reading{uptime(), uptime(), 50*year + uptime()}
		wantMono, wantBoot := Continue(frozen, Mode(r.IntN(2)), host, 0)
		mono, boot, err := OffsetsFor(wantMono, wantBoot, host)
		if err != nil {
			return false
		}
		later := time.Duration(r.Int64N(int64(time.Minute)))
		host.Monotonic += later
		host.Boottime += later
		job := host.In(mono, boot)
		return job.Monotonic == wantMono+later && job.Boottime == wantBoot+later &&
			job.Monotonic >= frozen.Monotonic && job.Boottime >= frozen.Boottime
	})
}

func TestOffsetsSurviveTheKernelsText(t *testing.T) {
	forAll(t, func(r *rand.Rand) bool {
		bound := func(d time.Duration) time.Duration {
			return max(-time.Duration(MaxClock), min(d, time.Duration(MaxClock)))
		}
		mono, boot := bound(anyDuration(r)), bound(-anyDuration(r))
		gotMono, gotBoot, err := parse(format(mono, boot))
		return err == nil && gotMono == mono && gotBoot == boot
	})
}

func TestNegativeOffsetsAreWrittenAsTheKernelWants(t *testing.T) {
	got := format(-1500*time.Millisecond, -time.Nanosecond)
	if want := "monotonic -2 500000000\nboottime -1 999999999\n"; got != want {
		t.Errorf("format gave %q, want %q", got, want)
	}
}

func TestSumsAreCutAtTheEndsOfTheRange(t *testing.T) {
	for _, c := range []struct{ got, want time.Duration }{
		{add(math.MaxInt64, 1), math.MaxInt64},
		{add(math.MinInt64, -1), math.MinInt64},
		{sub(math.MinInt64, 1), math.MinInt64},
		{sub(0, math.MinInt64), math.MaxInt64},
		{sub(-1, math.MinInt64), math.MaxInt64},
		{sub(math.MinInt64, math.MinInt64), 0},
	} {
		if c.got != c.want {
			t.Errorf("got %d, want %d", c.got, c.want)
		}
	}
}

func TestDamagedOffsetsAreRefused(t *testing.T) {
	for _, text := range []string{"", "monotonic 0 0\n", "monotonic 0 0\nboottime x 0\n",
		"monotonic 0 1000000000\nboottime 0 0\n", "monotonic 99999999999 0\nboottime 0 0\n"} {
		if _, _, err := parse(text); err == nil {
			t.Errorf("parse accepted %q", text)
		}
	}
}

func TestModesAreReadAndWrittenByName(t *testing.T) {
	for _, mode := range []Mode{Continuous, Elapsed} {
		data, err := json.Marshal(mode)
		if err != nil {
			t.Fatal(err)
		}
		var back Mode
		if err := json.Unmarshal(data, &back); err != nil || back != mode {
			t.Errorf("%s came back as %v, %v", data, back, err)
		}
	}
	if _, err := ParseMode("sideways"); err == nil {
		t.Error("an unknown mode was accepted")
	}
	if _, err := Mode(7).MarshalText(); err == nil {
		t.Error("a mode without a name was written")
	}
}

func FuzzParse(f *testing.F) {
	f.Add("monotonic           0         0\nboottime            0         0\n")
	f.Add(format(-year, year))
	f.Fuzz(func(t *testing.T, text string) {
		mono, boot, err := parse(text)
		if err != nil {
			return
		}
		again, alsoBoot, err := parse(format(mono, boot))
		if err != nil || again != mono || alsoBoot != boot {
			t.Errorf("%v %v came back as %v %v, %v", mono, boot, again, alsoBoot, err)
		}
	})
}
