package handoff

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// hands opens the moves of one agent of a cluster.
type hands struct {
	c *cluster
	a *agent
}

func (h hands) OpenSource(context.Context, Record) (Source, Peer, error) {
	return sourceJob{h.a, h.c.k}, link{h.c}, nil
}

func (h hands) OpenTarget(_ context.Context, rec Record) (*TargetHalf, Asker, error) {
	half := h.a.engine().OpenTarget(rec, targetJob{h.a, h.c.k})
	h.c.mu.Lock()
	h.c.tgt.half = half
	h.c.mu.Unlock()
	return half, asker{h.c}, nil
}

func TestRecoverFinishesBothSidesOfAMoveThatLostItsConnection(t *testing.T) {
	bubble(t, func(ctx context.Context, c *cluster) {
		calls := 1
		short, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		if outcome, err := c.run(short, cutAfter{link{c}, &calls}); outcome != OutcomeInDoubt {
			t.Fatalf("%s, %v", outcome, err)
		}
		for _, a := range []*agent{c.src, c.tgt} {
			a.open(t)
		}
		c.tgt.half = nil // went with the agent before
		for _, a := range []*agent{c.src, c.tgt} {
			c.work.Go(func() {
				report := func(rec Record, err error) {
					if !rec.State.Finished() || err != nil {
						t.Errorf("%s: %s, %v", rec.Role, rec.State, err)
					}
				}
				if err := a.engine().Recover(ctx, hands{c, a}, report); err != nil {
					t.Error(err)
				}
			})
		}
		c.work.Wait()
		c.wantCopies(dead, running)
		c.wantStates(StateReleased, StateDone)
	})
}

func TestRecoverEndsWithItsContextWhenThePeerIsAway(t *testing.T) {
	bubble(t, func(ctx context.Context, c *cluster) {
		if err := c.tgt.half.Prepare(ctx); err != nil {
			t.Fatal(err)
		}
		c.tgt.open(t)
		short, cancel := context.WithTimeout(ctx, time.Hour)
		defer cancel()
		err := c.tgt.engine().Recover(short, hands{c, c.tgt}, func(Record, error) {}) // the source has no record at all
		if !errors.Is(err, ErrInDoubt) || !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, ErrUnknownMove) {
			t.Errorf("%v", err)
		}
		c.wantCopies(running, parked)
	})
}

func TestRecoverOfATargetThatWentDownInItsResumeWaitsForAnOperator(t *testing.T) {
	bubble(t, func(ctx context.Context, c *cluster) {
		c.reboots = true
		c.tgt.half.target = slain{targetJob{c.tgt, c.k}}
		short, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		if outcome, err := c.run(short, link{c}); outcome != OutcomeInDoubt {
			t.Fatalf("%s, %v", outcome, err)
		}
		c.wantCopies(frozen, dead)
		c.wantStates(StateCommitted, StateCommitted)
		if err := c.tgt.half.Commit(ctx); !errors.Is(err, ErrInDoubt) {
			t.Errorf("commit: %v", err)
		}
		if err := c.tgt.half.Resolve(ctx, false); err != nil {
			t.Fatal(err)
		}
		if outcome, err := c.recoverSource(ctx); outcome != OutcomeAborted {
			t.Fatalf("%s, %v", outcome, err)
		}
		c.k.mu.Lock()
		defer c.k.mu.Unlock()
		if c.k.src != running {
			t.Errorf("the job is %s on the source", name(c.k.src))
		}
	})
}

// slain goes down with its node in the resume.
type slain struct{ targetJob }

func (s slain) Resume(context.Context) error {
	s.a.mu.Lock()
	defer s.a.mu.Unlock()
	s.a.dead = true
	return errCrashed
}

func TestRecoverIsRefusedWhileAnotherEngineWorks(t *testing.T) {
	bubble(t, func(ctx context.Context, c *cluster) {
		calls := 1
		short, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		c.work.Go(func() {
			if outcome, err := c.run(short, cutAfter{link{c}, &calls}); outcome != OutcomeInDoubt {
				t.Errorf("%s, %v", outcome, err)
			}
		})
		//house:allow time.Sleep: the bubble's clock
		time.Sleep(time.Second)
		synctest.Wait()
		if outcome, err := c.recoverSource(ctx); outcome != OutcomeRefused || !errors.Is(err, ErrRunning) {
			t.Errorf("%s, %v", outcome, err)
		}
	})
}
