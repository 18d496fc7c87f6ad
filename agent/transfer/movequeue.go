package transfer

import (
	"context"
	"slices"
	"strconv"
	"sync"
)

// MaxMoves is how many jobs leave a node at a time. Each of them reads, packs and
// sends with all cores and holds frames for its lanes; more at once would only make
// every downtime longer.
const MaxMoves = 4

// MoveQueue lets so many at a time go on, in the order in which they came.
type MoveQueue struct {
	Most int

	mu      sync.Mutex
	busy    int
	waiting []*waiter
}

// waiter is somebody's place in the queue.
type waiter struct {
	mine  chan struct{} // closed when it is their turn
	moved chan struct{} // holds a token when their place has changed
}

// take waits for a turn. Whoever waits is told how many others come first, each
// time that changes, until nobody does.
func (t *MoveQueue) take(ctx context.Context, tell func(others int)) (give func(), err error) {
	w := t.queue()
	for {
		select {
		case <-w.mine:
			return t.give, nil
		case <-w.moved:
			if others := t.before(w); others > 0 {
				tell(others)
			}
		case <-ctx.Done():
			t.leave(w)
			return nil, context.Cause(ctx)
		}
	}
}

func (t *MoveQueue) queue() *waiter {
	t.mu.Lock()
	defer t.mu.Unlock()
	w := &waiter{mine: make(chan struct{}), moved: make(chan struct{}, 1)}
	if t.busy < t.Most {
		t.busy++
		close(w.mine)
		return w
	}
	t.waiting = append(t.waiting, w)
	w.moved <- struct{}{}
	return w
}

// before is how many others must end before it is w's turn.
func (t *MoveQueue) before(w *waiter) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Index(t.waiting, w) + 1
}

// give passes a turn on to the first who waits.
func (t *MoveQueue) give() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.waiting) == 0 {
		t.busy--
		return
	}
	close(t.waiting[0].mine)
	t.advance(0)
}

// leave is for somebody who does not want to wait any longer. It may be their turn
// just now.
func (t *MoveQueue) leave(w *waiter) {
	t.mu.Lock()
	i := slices.Index(t.waiting, w)
	if i >= 0 {
		t.advance(i)
	}
	t.mu.Unlock()
	if i < 0 {
		t.give()
	}
}

// advance takes a place out of the queue and tells those behind it.
func (t *MoveQueue) advance(i int) {
	t.waiting = slices.Delete(t.waiting, i, i+1)
	for _, w := range t.waiting[i:] {
		select {
		case w.moved <- struct{}{}:
		default: // not yet seen that it moved before
		}
	}
}

func otherMoves(n int) string {
	if n == 1 {
		return "1 other move"
	}
	return strconv.Itoa(n) + " other moves"
}
