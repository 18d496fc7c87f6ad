package handoff

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// killCopy kills the parked copy right before the commit arrives.
type killCopy struct{ link }

func (l killCopy) Commit(ctx context.Context) error {
	l.c.k.change(func() {
		if l.c.k.tgt == parked {
			l.c.k.tgt = dead
		}
	})
	return l.link.Commit(ctx)
}

func TestTargetThatLostItsParkedCopyGivesTheJobBack(t *testing.T) {
	bubble(t, func(ctx context.Context, c *cluster) {
		outcome, err := c.run(ctx, killCopy{link{c}})
		if outcome != OutcomeAborted || !errors.Is(err, ErrDropped) {
			t.Fatalf("%s, %v", outcome, err)
		}
		c.wantCopies(running, dead)
		c.wantStates(StateAborted, StateDropped)
	})
}

func TestTargetNoticesThatItsParkedCopyDiedWhileItAsks(t *testing.T) {
	bubble(t, func(ctx context.Context, c *cluster) {
		if err := c.tgt.half.Prepare(ctx); err != nil {
			t.Fatal(err)
		}
		c.work.Go(func() {
			if err := c.tgt.half.Cut(ctx, silent{}); err != nil {
				t.Error(err)
			}
		})
		//house:allow time.Sleep: the bubble's clock
		time.Sleep(time.Minute)
		c.wantStates(StateNew, StatePrepared)
		c.k.change(func() { c.k.tgt = dead })
		c.work.Wait()
		c.wantStates(StateNew, StateDropped)
	})
}

type silent struct{}

func (silent) Outcome(context.Context) (State, error) { return "", errUnreachable }

func TestCommitReachesATargetThatIsAsking(t *testing.T) {
	bubble(t, func(ctx context.Context, c *cluster) {
		if err := c.tgt.half.Prepare(ctx); err != nil {
			t.Fatal(err)
		}
		c.work.Go(func() {
			if err := c.tgt.half.Cut(ctx, silent{}); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		if err := c.tgt.half.Commit(ctx); err != nil {
			t.Fatal(err)
		}
		c.work.Wait()
		c.wantStates(StateNew, StateDone)
	})
}

// hanging is a restore that does not end by itself.
type hanging struct {
	targetJob
	begun chan struct{}
}

func (t hanging) Prepare(ctx context.Context) error {
	close(t.begun)
	<-ctx.Done()
	return ctx.Err()
}

func TestAbortEndsAPrepareThatRuns(t *testing.T) {
	bubble(t, func(ctx context.Context, c *cluster) {
		job := hanging{targetJob{c.tgt, c.k}, make(chan struct{})}
		c.tgt.half.target = job
		prepared := make(chan error, 1)
		c.work.Go(func() { prepared <- c.tgt.half.Prepare(ctx) })
		<-job.begun
		if err := c.tgt.half.Abort(ctx); err != nil {
			t.Fatal(err)
		}
		if err := <-prepared; !errors.Is(err, context.Canceled) {
			t.Errorf("prepare ended with %v", err)
		}
		c.wantStates(StateNew, StateDropped)
	})
}

func TestCutBeforePreparedDropsAndALaterPrepareIsRefused(t *testing.T) {
	bubble(t, func(ctx context.Context, c *cluster) {
		for range 2 {
			if err := c.tgt.half.Cut(ctx, silent{}); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.tgt.half.Prepare(ctx); !errors.Is(err, ErrDropped) {
			t.Errorf("prepare: %v", err)
		}
		if err := c.tgt.half.Commit(ctx); !errors.Is(err, ErrDropped) {
			t.Errorf("commit: %v", err)
		}
	})
}

func TestAbortAfterTheCommitIsRefused(t *testing.T) {
	bubble(t, func(ctx context.Context, c *cluster) {
		if outcome, err := c.run(ctx, link{c}); outcome != OutcomeMoved {
			t.Fatal(err)
		}
		if err := c.tgt.half.Abort(ctx); !errors.Is(err, ErrCommitted) {
			t.Errorf("abort: %v", err)
		}
		c.wantCopies(dead, running)
	})
}

func TestTargetRefusesAnEpochThatItHasSeen(t *testing.T) {
	bubble(t, func(ctx context.Context, c *cluster) {
		if err := c.tgt.half.Abort(ctx); err != nil {
			t.Fatal(err)
		}
		rec := c.record("a", "boot-t")
		rec.Move = NewMoveID()
		half := c.tgt.engine().NewTarget(rec, targetJob{c.tgt, c.k})
		if err := half.Begin(ctx); !errors.Is(err, ErrStaleEpoch) {
			t.Errorf("begin: %v", err)
		}
	})
}

func TestMoveOfAJobWaitsForTheOneBefore(t *testing.T) {
	bubble(t, func(ctx context.Context, c *cluster) {
		rec := c.record("a", "boot-t")
		rec.Move, rec.Epoch = NewMoveID(), 2
		half := c.tgt.engine().NewTarget(rec, targetJob{c.tgt, c.k})
		if err := half.Begin(ctx); !errors.Is(err, ErrBusy) {
			t.Errorf("begin: %v", err)
		}
	})
}

func TestMoveCannotBeRunTwice(t *testing.T) {
	bubble(t, func(ctx context.Context, c *cluster) {
		if outcome, err := c.run(ctx, link{c}); outcome != OutcomeMoved {
			t.Fatal(err)
		}
		if outcome, err := c.run(ctx, link{c}); outcome != OutcomeRefused || err == nil {
			t.Errorf("%s, %v", outcome, err)
		}
	})
}
