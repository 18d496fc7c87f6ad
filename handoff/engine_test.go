package handoff

import (
	"context"
	"errors"
	"reflect"
	"testing"
	"testing/synctest"
	"time"
)

// bubble runs a test with a clock of its own and two agents that have begun a move.
func bubble(t *testing.T, f func(ctx context.Context, c *cluster)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		c := newCluster(t, ctx)
		c.begin()
		f(ctx, c)
		c.work.Wait()
	})
}

func TestMoveWithoutFaultsRunsOnTheTargetOnly(t *testing.T) {
	bubble(t, func(ctx context.Context, c *cluster) {
		var seen []State
		engine := c.src.engine()
		engine.Observe = func(rec Record) { seen = append(seen, rec.State) }
		outcome, err := engine.RunSource(ctx, c.record("b", "boot-s"), sourceJob{c.src, c.k}, link{c})
		if outcome != OutcomeMoved || err != nil {
			t.Fatalf("%s, %v", outcome, err)
		}
		c.wantCopies(dead, running)
		c.wantStates(StateReleased, StateDone)
		if want := []State{StateFrozen, StateCommitted, StateReleased}; !reflect.DeepEqual(seen, want) {
			t.Errorf("observed %v, want %v", seen, want)
		}
	})
}

// loseAck carries out what it is told and loses the answer, the first times.
type loseAck struct {
	link
	times *int
}

func (l loseAck) Commit(ctx context.Context) error {
	err := l.link.Commit(ctx)
	if *l.times > 0 {
		*l.times--
		return errUnreachable
	}
	return err
}

func (l loseAck) Outcome(ctx context.Context) (State, error) {
	if *l.times > 0 {
		*l.times--
		return "", errUnreachable
	}
	return l.link.Outcome(ctx)
}

func TestCommitWhoseAnswerIsLostIsAskedForAgain(t *testing.T) {
	bubble(t, func(ctx context.Context, c *cluster) {
		times := 7
		if outcome, err := c.run(ctx, loseAck{link{c}, &times}); outcome != OutcomeMoved || err != nil {
			t.Fatalf("%s, %v", outcome, err)
		}
		c.wantCopies(dead, running)
	})
}

// cutAfter breaks the connection for good after a number of calls.
type cutAfter struct {
	link
	calls *int
}

func (l cutAfter) cut() error {
	*l.calls--
	if *l.calls < 0 {
		return errUnreachable
	}
	return nil
}

func (l cutAfter) Commit(ctx context.Context) error {
	if err := l.cut(); err != nil {
		return err
	}
	return l.link.Commit(ctx)
}

func (l cutAfter) Prepare(ctx context.Context) error {
	if err := l.cut(); err != nil {
		return err
	}
	return l.link.Prepare(ctx)
}

func (l cutAfter) Abort(context.Context) error { return l.cut() }

func (l cutAfter) Yield(context.Context) error { return l.cut() }

func (l cutAfter) Outcome(context.Context) (State, error) { return "", l.cut() }

func TestCommitWithoutAConnectionLeavesTheMoveInDoubtAndTheTargetFindsOut(t *testing.T) {
	bubble(t, func(ctx context.Context, c *cluster) {
		calls := 1
		short, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		outcome, err := c.run(short, cutAfter{link{c}, &calls})
		if outcome != OutcomeInDoubt || !errors.Is(err, ErrInDoubt) || !errors.Is(err, errUnreachable) || !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("%s, %v", outcome, err)
		}
		c.wantCopies(frozen, parked)
		if err := c.tgt.half.Cut(ctx, asker{c}); err != nil {
			t.Fatal(err)
		}
		c.wantCopies(frozen, running)
		if outcome, err := c.recoverSource(ctx); outcome != OutcomeMoved || err != nil {
			t.Fatalf("%s, %v", outcome, err)
		}
		c.wantCopies(dead, running)
		c.wantStates(StateReleased, StateDone)
	})
}

func TestAbortThawsTheJobAndNamesTheCause(t *testing.T) {
	bubble(t, func(ctx context.Context, c *cluster) {
		calls := 0
		outcome, err := c.run(ctx, cutAfter{link{c}, &calls})
		if outcome != OutcomeAborted || !errors.Is(err, ErrAborted) || !errors.Is(err, errUnreachable) {
			t.Fatalf("%s, %v", outcome, err)
		}
		c.wantCopies(running, none)
		rec, err := c.src.j.Get(c.move)
		if err != nil || rec.State != StateAborted || rec.Note == "" {
			t.Errorf("record is %+v, %v", rec, err)
		}
	})
}

// cancelling ends the move's context during the transfer.
type cancelling struct {
	sourceJob
	cancel context.CancelCauseFunc
	cause  error
}

func (s cancelling) Transfer(ctx context.Context) error {
	s.cancel(s.cause)
	<-ctx.Done()
	return ctx.Err()
}

func TestCancelAbortsTheMoveWithItsCause(t *testing.T) {
	bubble(t, func(ctx context.Context, c *cluster) {
		ctx, cancel := context.WithCancelCause(ctx)
		cause := errors.New("the user pressed ^C")
		outcome, err := c.src.engine().RunSource(ctx, c.record("b", "boot-s"), cancelling{sourceJob{c.src, c.k}, cancel, cause}, link{c})
		if outcome != OutcomeAborted || !errors.Is(err, cause) || !errors.Is(err, ErrAborted) {
			t.Fatalf("%s, %v", outcome, err)
		}
		c.wantCopies(running, dead)
		c.wantStates(StateAborted, StateDropped)
	})
}

// cancelAtCommit ends the context when the commit is on its way.
type cancelAtCommit struct {
	link
	cancel context.CancelFunc
}

func (l cancelAtCommit) Commit(ctx context.Context) error {
	l.cancel()
	if err := ctx.Err(); err != nil {
		return err
	}
	return l.link.Commit(ctx)
}

func TestCancelAfterTheCommitRecordDoesNotStopTheMove(t *testing.T) {
	bubble(t, func(ctx context.Context, c *cluster) {
		ctx, cancel := context.WithCancel(ctx)
		if outcome, err := c.run(ctx, cancelAtCommit{link{c}, cancel}); outcome != OutcomeMoved || err != nil {
			t.Fatalf("%s, %v", outcome, err)
		}
		c.wantCopies(dead, running)
	})
}

// wakes is a job that another process thawed.
type wakes struct{ sourceJob }

func (wakes) StillFrozen(context.Context) error { return errors.New("a task of the job runs") }

func TestCommitNeedsAJobThatIsStillFrozen(t *testing.T) {
	bubble(t, func(ctx context.Context, c *cluster) {
		outcome, _ := c.src.engine().RunSource(ctx, c.record("b", "boot-s"), wakes{sourceJob{c.src, c.k}}, link{c})
		if outcome != OutcomeAborted {
			t.Fatal(outcome)
		}
		c.wantStates(StateAborted, StateDropped)
	})
}

// stuckFrozen is a job that cannot be thawed, or released, for a while.
type stuckFrozen struct {
	sourceJob
	tries *int
}

func (s stuckFrozen) Release(ctx context.Context) error {
	if *s.tries--; *s.tries >= 0 {
		return errors.New("device or resource busy")
	}
	return s.sourceJob.Release(ctx)
}

func TestReleaseThatFailsIsReportedAndLeftToRecovery(t *testing.T) {
	bubble(t, func(ctx context.Context, c *cluster) {
		tries := 100
		outcome, err := c.src.engine().RunSource(ctx, c.record("b", "boot-s"), stuckFrozen{sourceJob{c.src, c.k}, &tries}, link{c})
		if outcome != OutcomeUnclean || !errors.Is(err, ErrUnclean) {
			t.Fatalf("%s, %v", outcome, err)
		}
		c.wantCopies(frozen, running)
		if outcome, err := c.recoverSource(ctx); outcome != OutcomeMoved {
			t.Fatalf("%s, %v", outcome, err)
		}
		c.wantCopies(dead, running)
	})
}

func TestResolveTakesTheJobBackFromAnEngineThatStillTries(t *testing.T) {
	bubble(t, func(ctx context.Context, c *cluster) {
		calls := 1
		c.work.Go(func() {
			if outcome, err := c.run(ctx, cutAfter{link{c}, &calls}); outcome != OutcomeInDoubt {
				t.Errorf("%s, %v", outcome, err)
			}
		})
		//house:allow time.Sleep: the bubble's clock
		time.Sleep(time.Minute)
		outcome, err := c.src.engine().ResolveSource(ctx, c.move, sourceJob{c.src, c.k}, cutAfter{link{c}, &calls}, Decision{true, always})
		if outcome != OutcomeAborted {
			t.Fatalf("%s, %v", outcome, err)
		}
		c.wantStates(StateAborted, StatePrepared)
		if err := c.tgt.half.Cut(ctx, asker{c}); err != nil { // the target was only away, and hears of it
			t.Fatal(err)
		}
		c.wantCopies(running, dead)
	})
}

func TestResolveLetsAParkedCopyRunOrDropsIt(t *testing.T) {
	for _, take := range []bool{true, false} {
		bubble(t, func(ctx context.Context, c *cluster) {
			if err := c.tgt.half.Prepare(ctx); err != nil {
				t.Fatal(err)
			}
			if err := c.tgt.half.Resolve(ctx, take); err != nil {
				t.Fatal(err)
			}
			want := map[bool]State{true: StateDone, false: StateDropped}[take]
			c.wantStates(StateNew, want)
		})
	}
}

// loseCommits loses the first commits on their way.
type loseCommits struct {
	link
	times *int
}

func (l loseCommits) Commit(ctx context.Context) error {
	if *l.times--; *l.times >= 0 {
		return errUnreachable
	}
	return l.link.Commit(ctx)
}

func TestCommitThatDidNotArriveIsSentAgainToAPreparedTarget(t *testing.T) {
	bubble(t, func(ctx context.Context, c *cluster) {
		times := 5
		if outcome, err := c.run(ctx, loseCommits{link{c}, &times}); outcome != OutcomeMoved || err != nil {
			t.Fatalf("%s, %v", outcome, err)
		}
		c.wantCopies(dead, running)
	})
}
