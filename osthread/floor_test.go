package osthread

import (
	"testing"
	"time"
)

// weight is what a level counts for when the kernel shares a processor out
// (kernel/sched/core.c, sched_prio_to_weight).
var weight = map[int]float64{Polite: 45, 0: 1024, foremost: 9548}

// shareBeside is the part of a processor that a thread has beside so many others that
// never sleep, and the levels at which it was.
func shareBeside(others int) (share float64, levels map[int]int) {
	const slice = 3 * time.Millisecond
	var f Floor
	var ran, waited time.Duration
	level := Polite
	levels = map[int]int{}
	for range 20000 {
		wait := time.Duration(float64(slice) * float64(others) * weight[0] / weight[level])
		ran, waited = ran+slice, waited+wait
		level = f.After(slice, wait)
		levels[level]++
	}
	return float64(ran) / float64(ran+waited), levels
}

func TestWhatGivesWayHasItsFloorWhateverElseRuns(t *testing.T) {
	if share, levels := shareBeside(0); share != 1 || len(levels) != 1 || levels[Polite] == 0 {
		t.Errorf("alone it has %.3f of a processor, at the levels %v", share, levels)
	}
	const least = 1.0 / floor
	for _, others := range []int{1, 2, 4, 8, 16, 64} {
		share, levels := shareBeside(others)
		if share < 0.9*least {
			t.Errorf("beside %d others it has %.3f of a processor, below its floor of %.3f; levels %v", others, share, least, levels)
		}
		if share > 1.5*least {
			t.Errorf("beside %d others it has %.3f of a processor, which is more than its turn; levels %v", others, share, levels)
		}
	}
}

// What it had while nobody wanted the processor is not held against it later.
func TestAnIdleNodeEarnsNoDebt(t *testing.T) {
	var f Floor
	f.After(time.Hour, 0)
	if level := f.After(0, 200*time.Millisecond); level == Polite {
		t.Error("it gives way although it has waited for fifty turns")
	}
}

func TestAThreadThatStarvesTakesItsTurn(t *testing.T) {
	if before := nice(t); before != 0 {
		t.Skipf("the test runs at level %d", before)
	}
	taken := false
	onOneProcessor(t, 8, func() {
		Politely(func(c *Clock) {
			for end := time.Now().Add(time.Minute); !taken && time.Now().Before(end); {
				for began := c.Now(); c.Now()-began < time.Millisecond; {
				}
				c.TakeTurn()
				taken = nice(t) < Polite
			}
		})
	})
	if !taken {
		t.Error("a thread that had nearly no processor for a minute gives way still")
	}
}
