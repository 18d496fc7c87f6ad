package transfer

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
)

// comer waits for a turn and notes what it is told.
type comer struct {
	told  []int
	give  func()
	err   error
	leave context.CancelCauseFunc
}

func come(t *testing.T, q *MoveQueue) *comer {
	t.Helper()
	c := &comer{}
	ctx, cancel := context.WithCancelCause(t.Context())
	c.leave = cancel
	go func() { c.give, c.err = q.take(ctx, func(n int) { c.told = append(c.told, n) }) }()
	synctest.Wait()
	return c
}

func TestTurnsComeInTheOrderOfTheirComing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &MoveQueue{Most: 2}
		var all []*comer
		for range 6 {
			all = append(all, come(t, q))
		}
		for i := range all {
			for k, c := range all {
				if has := c.give != nil; has != (k < i+2) {
					t.Errorf("after %d gave theirs, comer %d has a turn: %v", i, k, has)
				}
			}
			all[i].give()
			synctest.Wait()
		}
		for k, want := range [][]int{nil, nil, {1}, {2, 1}, {3, 2, 1}, {4, 3, 2, 1}} {
			if !slices.Equal(all[k].told, want) {
				t.Errorf("comer %d was told %v, want %v", k, all[k].told, want)
			}
		}
		if again := come(t, q); again.give == nil {
			t.Error("no turn is left when all are given back")
		} else {
			again.give()
		}
	})
}

func TestWhoeverStopsWaitingHoldsUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &MoveQueue{Most: 1}
		first, second, third := come(t, q), come(t, q), come(t, q)
		why := errors.New("no patience")
		second.leave(why)
		synctest.Wait()
		if !errors.Is(second.err, why) || !slices.Equal(third.told, []int{2, 1}) {
			t.Errorf("%v, %v", second.err, third.told)
		}
		third.leave(why)
		first.give() // it may be the third's turn now, who has left
		synctest.Wait()
		if third.give != nil {
			third.give()
		}
		if last := come(t, q); last.give == nil {
			t.Error("the turn was lost")
		} else {
			last.give()
		}
	})
}
