package handoff

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestCrashAtAnyStepLeavesOneRunningCopy crashes one agent at each of its steps in turn, alone or
// with its node, and lets recovery do the rest.
func TestCrashAtAnyStepLeavesOneRunningCopy(t *testing.T) {
	for _, who := range []string{"source", "target"} {
		for _, reboots := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, reboot %v", who, reboots), func(t *testing.T) {
				n := 0
				for ; crashAt(t, who, reboots, n); n++ {
				}
				if n < 10 {
					t.Errorf("only %d steps: the sweep has missed the move", n)
				}
			})
		}
	}
}

// crashAt reports whether there was a step n to crash at.
func crashAt(t *testing.T, who string, reboots bool, n int) (crashed bool) {
	bubble(t, func(ctx context.Context, c *cluster) {
		c.reboots = reboots
		victim := map[string]*agent{"source": c.src, "target": c.tgt}[who]
		victim.limit = victim.steps + n
		short, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		outcome, err := c.run(short, link{c})
		crashed = victim.crashed() || victim.limit < 0
		if c.src.crashed() {
			c.work.Go(func() { // the target sees the connection break
				if err := c.tgt.half.Cut(ctx, asker{c}); err != nil {
					t.Errorf("step %d: cut: %v", n, err)
				}
			})
			synctest.Wait()
			c.restartSource()
		}
		c.restartTarget()
		if outcome != OutcomeMoved {
			short, cancel := context.WithTimeout(ctx, time.Minute)
			defer cancel()
			if o, e := c.recoverSource(short); !errors.Is(e, ErrUnknownMove) {
				outcome, err = o, e
			} else if who == "source" { // no record: the job was not touched
				outcome = OutcomeAborted
			}
		}
		c.work.Wait()
		c.judge(t, who, n, outcome, err)
	})
	return crashed
}

// judge knows the endings that a crash may have.
func (c *cluster) judge(t *testing.T, who string, n int, outcome Outcome, err error) {
	t.Helper()
	src, tgt := c.states()
	ending := fmt.Sprintf("step %d: %s (%v); source %s, job %s; target %s, job %s", n, outcome, err, src, name(c.k.src), tgt, name(c.k.tgt))
	if len(c.k.faults) > 0 {
		t.Errorf("%s: %v", ending, c.k.faults)
	}
	one := (c.k.src == running) != (c.k.tgt == running)
	switch {
	case one && tgt.Finished() && (src.Finished() || src == StateNew):
		want := OutcomeAborted
		if c.k.tgt == running {
			want = OutcomeMoved
		}
		if outcome != want {
			t.Errorf("%s: the outcome should be %s", ending, want)
		}
	case c.reboots && who == "target" && tgt == StateCommitted && c.k.src == frozen && outcome == OutcomeInDoubt:
	case c.reboots && who == "target" && tgt == StateDone: // it ran there and died with that node
	case c.reboots && who == "source" && outcome == OutcomeLost && src == StateAborted && tgt == StateDropped:
	case c.reboots && who == "source" && outcome == OutcomeAborted && src == StateNew:
	default:
		t.Error(ending)
	}
}

// failingDisk fails appends of a state, and the attempts to undo them.
type failingDisk struct {
	disk
	fail *atomic.Bool
}

func (d failingDisk) Append(path string, line []byte) error {
	if d.fail.Load() {
		return errors.Join(errors.New("input/output error"), d.disk.Append(path, line))
	}
	return d.disk.Append(path, line)
}

func (d failingDisk) Replace(path string, data []byte) error {
	if d.fail.Load() {
		return errors.New("input/output error")
	}
	return d.disk.Replace(path, data)
}

// failAtCheck lets the disk fail from the last check before the commit record on.
type failAtCheck struct {
	sourceJob
	fail *atomic.Bool
}

func (s failAtCheck) StillFrozen(ctx context.Context) error {
	s.fail.Store(true)
	return s.sourceJob.StillFrozen(ctx)
}

func TestThawWaitsWhileTheCommitMayBeOnTheDisk(t *testing.T) {
	bubble(t, func(ctx context.Context, c *cluster) {
		var fail atomic.Bool
		c.src.j.disk = failingDisk{c.src.j.disk, &fail}
		short, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		outcome, err := c.src.engine().RunSource(short, c.record("b", "boot-s"), failAtCheck{sourceJob{c.src, c.k}, &fail}, link{c})
		if outcome != OutcomeInDoubt || !errors.Is(err, ErrUnsure) {
			t.Fatalf("%s, %v", outcome, err)
		}
		c.wantCopies(frozen, parked)
		if _, err := c.src.j.Answer(c.move, "b"); !errors.Is(err, ErrUnsure) {
			t.Errorf("the target is answered: %v", err)
		}
		c.restartSource() // the record is there
		if outcome, err := c.recoverSource(ctx); outcome != OutcomeMoved {
			t.Fatalf("%s, %v", outcome, err)
		}
		c.wantCopies(dead, running)
	})
}

func TestThawFollowsWhenADiskThatFailedTakesTheAbort(t *testing.T) {
	bubble(t, func(ctx context.Context, c *cluster) {
		var fail atomic.Bool
		c.src.j.disk = failingDisk{c.src.j.disk, &fail}
		time.AfterFunc(time.Minute, func() { fail.Store(false) })
		outcome, err := c.src.engine().RunSource(ctx, c.record("b", "boot-s"), failAtCheck{sourceJob{c.src, c.k}, &fail}, link{c})
		if outcome != OutcomeAborted {
			t.Fatalf("%s, %v", outcome, err)
		}
		c.wantCopies(running, dead)
		c.wantStates(StateAborted, StateDropped)
	})
}
