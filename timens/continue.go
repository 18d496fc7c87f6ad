package timens

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// MaxClock is the highest reading that a namespace's clock may have when its offsets
// are written: about 146 years (KTIME_SEC_MAX / 2, kernel/time/namespace.c), less an
// hour, which is the time that may pass between the arithmetic and the write.
const MaxClock = math.MaxInt64/int64(time.Second)/2*int64(time.Second) - int64(time.Hour)

// ErrRange is returned for a clock that no offset can bring about.
var ErrRange = errors.New("clock out of the kernel's range")

// Continue returns what a job's clocks must show when it runs again. frozen holds the
// job's own readings at the freeze, with the source's wall clock; now is the target's
// wall clock when the job is about to run; skew is the target's wall clock minus the
// source's, at one moment. The result is never less than frozen: a wall clock that
// seems to have gone backwards counts as no time away. It is never above [MaxClock]
// either, unless frozen was.
func Continue(frozen Reading, mode Mode, now Reading, skew time.Duration) (mono, boot time.Duration) {
	if mode != Elapsed {
		return frozen.Monotonic, frozen.Boottime
	}
	away := max(0, sub(sub(now.Realtime, skew), frozen.Realtime))
	return advance(frozen.Monotonic, away), advance(frozen.Boottime, away)
}

func advance(clock, by time.Duration) time.Duration {
	return max(clock, min(add(clock, by), time.Duration(MaxClock)))
}

// OffsetsFor returns the offsets that make the clocks show wantMono and wantBoot at the
// moment when the host's show host. Written later, they make the job's clocks ahead of
// want by the time between, never behind. ErrRange if a clock is negative or above
// [MaxClock], which the kernel would refuse with ERANGE.
func OffsetsFor(wantMono, wantBoot time.Duration, host Reading) (mono, boot time.Duration, err error) {
	if mono, err = offsetFor(wantMono, host.Monotonic); err != nil {
		return 0, 0, fmt.Errorf("monotonic clock: %w", err)
	}
	if boot, err = offsetFor(wantBoot, host.Boottime); err != nil {
		return 0, 0, fmt.Errorf("boottime clock: %w", err)
	}
	return mono, boot, nil
}

func offsetFor(want, host time.Duration) (time.Duration, error) {
	if want < 0 || want > time.Duration(MaxClock) {
		return 0, fmt.Errorf("%w: the job would read %v, allowed is 0 to %v", ErrRange, want, time.Duration(MaxClock))
	}
	if host < 0 {
		return 0, fmt.Errorf("%w: the host reads %v", ErrRange, host)
	}
	return want - host, nil
}

func add(a, b time.Duration) time.Duration {
	sum := a + b
	if b > 0 && sum < a {
		return math.MaxInt64
	}
	if b < 0 && sum > a {
		return math.MinInt64
	}
	return sum
}

func sub(a, b time.Duration) time.Duration {
	if b == math.MinInt64 {
		return add(add(a, math.MaxInt64), 1)
	}
	return add(a, -b)
}
