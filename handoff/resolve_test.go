package handoff

import (
	"context"
	"errors"
	"testing"
	"time"
)

// die ends an agent at once; what it does from then on fails.
func (a *agent) die() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.dead = true
}

func (c *cluster) resolveSource(ctx context.Context, take bool) (Outcome, error) {
	return c.src.engine().ResolveSource(ctx, c.move, sourceJob{c.src, c.k}, away{link{c}}, Decision{take, always})
}

// away is a peer that cannot be reached.
type away struct{ link }

func (away) Prepare(context.Context) error          { return errUnreachable }
func (away) Commit(context.Context) error           { return errUnreachable }
func (away) Abort(context.Context) error            { return errUnreachable }
func (away) Yield(context.Context) error            { return errUnreachable }
func (away) Outcome(context.Context) (State, error) { return "", errUnreachable }

// committed is a cluster whose source has committed and whose target, with a record in the given
// state, is gone.
func (c *cluster) committed(ctx context.Context, target State) {
	c.t.Helper()
	short, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if outcome, err := c.run(short, dyingAt{link{c}, target}); outcome != OutcomeInDoubt {
		c.t.Fatalf("%s, %v", outcome, err)
	}
	c.wantStates(StateCommitted, target)
}

// dyingAt loses the target when the commit arrives, or when its record of it is on the disk.
type dyingAt struct {
	link
	state State
}

func (d dyingAt) Commit(ctx context.Context) error {
	c := d.c
	c.tgt.mu.Lock()
	switch {
	case c.tgt.dead || c.tgt.limit >= 0:
	case d.state == StatePrepared:
		c.tgt.dead = true
	case d.state == StateCommitted: // StillParked and the record take four steps
		c.tgt.limit = c.tgt.steps + 4
	}
	c.tgt.mu.Unlock()
	if c.tgt.crashed() {
		return errUnreachable
	}
	return c.tgt.half.Commit(ctx)
}

func (d dyingAt) Outcome(context.Context) (State, error) { return "", errUnreachable }

func TestResolveOfTheSourceKeepsTheTargetThatComesBackFromRunning(t *testing.T) {
	for _, target := range []State{StatePrepared, StateCommitted} {
		for _, reboots := range []bool{false, true} {
			bubble(t, func(ctx context.Context, c *cluster) {
				c.reboots = reboots
				c.committed(ctx, target)
				if outcome, err := c.resolveSource(ctx, true); outcome != OutcomeAborted {
					t.Fatalf("%s: %s, %v", target, outcome, err)
				}
				c.restartTarget()
				c.work.Wait()
				c.wantCopies(running, dead)
				c.wantStates(StateAborted, StateDropped)
			})
		}
	}
}

func TestResolveOfTheTargetKeepsTheSourceThatComesBackFromThawing(t *testing.T) {
	bubble(t, func(ctx context.Context, c *cluster) {
		if _, err := c.run(ctx, dyingSource{link{c}}); err == nil {
			t.Fatal("the source lives")
		}
		if err := c.tgt.half.Resolve(ctx, true); err != nil {
			t.Fatal(err)
		}
		c.wantCopies(frozen, running)
		c.restartSource()
		if outcome, err := c.recoverSource(ctx); outcome != OutcomeMoved {
			t.Fatalf("%s, %v", outcome, err)
		}
		c.wantCopies(dead, running)
		c.wantStates(StateReleased, StateDone)
	})
}

// dyingSource loses the source when the target has prepared.
type dyingSource struct{ link }

func (d dyingSource) Prepare(ctx context.Context) error {
	if err := d.link.Prepare(ctx); err != nil {
		return err
	}
	d.c.src.die()
	return errCrashed
}

func TestThawOfARestartedSourceWaitsForItsTargetOrAnOperator(t *testing.T) {
	bubble(t, func(ctx context.Context, c *cluster) {
		_, _ = c.run(ctx, dyingSource{link{c}})
		c.restartSource()
		rec, err := c.src.j.Get(c.move)
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan Outcome)
		go func() {
			outcome, _ := c.src.engine().RecoverSource(ctx, rec, sourceJob{c.src, c.k}, away{link{c}})
			done <- outcome
		}()
		//house:allow time.Sleep: the bubble's clock
		time.Sleep(time.Minute)
		c.wantCopies(frozen, parked)
		if outcome, err := c.resolveSource(ctx, true); outcome != OutcomeAborted {
			t.Fatalf("%s, %v", outcome, err)
		}
		if outcome := <-done; outcome != OutcomeInDoubt {
			t.Errorf("the engine that waited ended with %s", outcome)
		}
		c.wantStates(StateAborted, StatePrepared)
		if err := c.tgt.half.Cut(ctx, asker{c}); err != nil {
			t.Fatal(err)
		}
		c.wantCopies(running, dead)
	})
}

func TestResolveIsRefusedWhenThePeerCanBeReachedAfterAll(t *testing.T) {
	bubble(t, func(ctx context.Context, c *cluster) {
		c.committed(ctx, StatePrepared)
		reachable := errors.New("it answers")
		apart := func(context.Context) error {
			if _, err := c.src.j.Answer(c.move, "b"); !errors.Is(err, errOperatorDecides) {
				t.Errorf("the target can hear of a commit while an operator decides: %v", err)
			}
			return reachable
		}
		outcome, err := c.src.engine().ResolveSource(ctx, c.move, sourceJob{c.src, c.k}, away{link{c}}, Decision{true, apart})
		if outcome != OutcomeRefused || !errors.Is(err, reachable) {
			t.Fatalf("%s, %v", outcome, err)
		}
		c.wantStates(StateCommitted, StatePrepared)
		if state, err := c.src.j.Answer(c.move, "b"); state != StateCommitted || err != nil {
			t.Errorf("the target is answered %q, %v", state, err)
		}
		c.restartTarget()
		if outcome, err := c.recoverSource(ctx); outcome != OutcomeMoved {
			t.Fatalf("%s, %v", outcome, err)
		}
		c.work.Wait()
		c.wantCopies(dead, running)
	})
}

func TestResolveTakesNothingWhereNoFrozenJobIs(t *testing.T) {
	bubble(t, func(ctx context.Context, c *cluster) {
		c.committed(ctx, StatePrepared)
		c.k.change(func() { c.k.src = dead })
		if outcome, err := c.resolveSource(ctx, true); outcome != OutcomeRefused {
			t.Fatalf("%s, %v", outcome, err)
		}
		c.wantStates(StateCommitted, StatePrepared)
	})
}

func TestResolveThatDropsTheSourceLetsTheTargetRunWhenItComesBack(t *testing.T) {
	bubble(t, func(ctx context.Context, c *cluster) {
		c.committed(ctx, StatePrepared)
		if outcome, err := c.resolveSource(ctx, false); outcome != OutcomeMoved {
			t.Fatalf("%s, %v", outcome, err)
		}
		c.restartTarget()
		c.work.Wait()
		c.wantCopies(dead, running)
		c.wantStates(StateReleased, StateDone)
	})
}

func TestResolveThatDropsTheFrozenCopyLosesWhatWentDownInItsResume(t *testing.T) {
	bubble(t, func(ctx context.Context, c *cluster) {
		c.reboots = true
		c.committed(ctx, StateCommitted)
		c.restartTarget()
		//house:allow time.Sleep: the bubble's clock
		time.Sleep(time.Minute)
		if !c.tgt.half.InDoubt() {
			t.Fatal("the target is sure")
		}
		c.wantStates(StateCommitted, StateCommitted)
		if outcome, err := c.resolveSource(ctx, false); outcome != OutcomeMoved {
			t.Fatalf("%s, %v", outcome, err)
		}
		c.work.Wait()
		c.wantStates(StateReleased, StateDropped)
	})
}

func TestYieldEndsACopyThatRan(t *testing.T) {
	bubble(t, func(ctx context.Context, c *cluster) { // of the target, by mistake: it only seemed to be gone
		short, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		times := 1000
		if outcome, _ := c.run(short, loseAck{link{c}, &times}); outcome != OutcomeInDoubt {
			t.Fatal(outcome)
		}
		if outcome, err := c.resolveSource(ctx, true); outcome != OutcomeAborted {
			t.Fatalf("%s, %v", outcome, err)
		}
		if err := (link{c}).Yield(ctx); err != nil {
			t.Fatal(err)
		}
		if err := (link{c}).Yield(ctx); err != nil {
			t.Errorf("told twice: %v", err)
		}
		c.wantStates(StateAborted, StateDropped)
		c.k.mu.Lock()
		defer c.k.mu.Unlock()
		if c.k.src != running || c.k.tgt != dead {
			t.Errorf("copies are %s and %s", name(c.k.src), name(c.k.tgt))
		}
	})
	bubble(t, func(ctx context.Context, c *cluster) { // of the source
		calls := 1
		short, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		if outcome, _ := c.run(short, cutAfter{link{c}, &calls}); outcome != OutcomeInDoubt {
			t.Fatal(outcome)
		}
		if err := c.tgt.half.Resolve(ctx, true); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if outcome, err := c.src.engine().YieldSource(ctx, c.move, sourceJob{c.src, c.k}, link{c}); outcome != OutcomeMoved {
				t.Fatalf("%s, %v", outcome, err)
			}
		}
		c.wantCopies(dead, running)
		c.wantStates(StateReleased, StateDone)
	})
}

func TestYieldIsRefusedWhereOperatorsTookBothCopies(t *testing.T) {
	bubble(t, func(ctx context.Context, c *cluster) {
		c.committed(ctx, StatePrepared)
		if outcome, err := c.resolveSource(ctx, true); outcome != OutcomeAborted {
			t.Fatalf("%s, %v", outcome, err)
		}
		c.tgt.open(t)
		rec, err := c.tgt.j.Get(c.move)
		if err != nil {
			t.Fatal(err)
		}
		c.tgt.half = c.tgt.engine().OpenTarget(rec, targetJob{c.tgt, c.k})
		if err := c.tgt.half.Resolve(ctx, true); err != nil {
			t.Fatal(err)
		}
		if err := (link{c}).Yield(ctx); !errors.Is(err, ErrTaken) {
			t.Errorf("the target: %v", err)
		}
		if _, err := c.src.engine().YieldSource(ctx, c.move, sourceJob{c.src, c.k}, link{c}); !errors.Is(err, ErrTaken) {
			t.Errorf("the source: %v", err)
		}
		c.wantStates(StateAborted, StateDone)
	})
}

func TestResolveIsRememberedUntilThePeerWasTold(t *testing.T) {
	bubble(t, func(ctx context.Context, c *cluster) {
		c.committed(ctx, StatePrepared)
		if outcome, err := c.resolveSource(ctx, true); outcome != OutcomeAborted {
			t.Fatalf("%s, %v", outcome, err)
		}
		untold := func() bool {
			t.Helper()
			rec, err := c.src.j.Get(c.move)
			if err != nil || !rec.Taken || rec.State != StateAborted {
				t.Fatalf("%+v, %v", rec, err)
			}
			if state, err := c.src.j.Answer(c.move, "b"); state != StateTaken || err != nil {
				t.Errorf("the target is answered %q, %v", state, err)
			}
			return rec.PeerToTell
		}
		c.src.die()
		c.restartSource()
		if err := c.src.j.Prune(time.Now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		if !untold() {
			t.Error("nobody has told the target")
		}
		for range 2 {
			if err := c.src.j.PeerTold(c.move); err != nil {
				t.Fatal(err)
			}
		}
		if untold() {
			t.Error("the target was told")
		}
	})
}
