package transport

import (
	"fmt"
	"slices"
	"sync"
)

// waitingRoom is where sessions wait for their data connections:
//
//	control arrives ── open ──► half open ──(reserve, answer, join) × data──► complete
//	                                │                                            │
//	                                └── out of time ──► close ◄── taken ─────────┘
//
// A place is reserved before the answer goes out and filled after it. So no sender can
// write to a data connection ahead of its hello.
type waitingRoom struct {
	mu    *sync.Mutex
	limit int
	half  map[sessionKey]*halfOpen
}

// sessionKey holds the node as well: no node can join another node's session.
type sessionKey struct{ peer, session string }

type halfOpen struct {
	key      sessionKey
	reserved []bool
	data     []*conn
	complete chan struct{} // closed when data is full
}

func newWaitingRoom(limit int) waitingRoom {
	return waitingRoom{mu: new(sync.Mutex), limit: limit, half: make(map[sessionKey]*halfOpen)}
}

func (w waitingRoom) open(peer, session string, data int) (*halfOpen, *Error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	key := sessionKey{peer, session}
	if len(w.half) >= w.limit || w.half[key] != nil {
		return nil, &Error{
			Code:    CodeBusy,
			Message: fmt.Sprintf("%d sessions are being set up", len(w.half)),
			Hint:    "`migrate move` again in a few seconds",
		}
	}
	h := &halfOpen{key: key, reserved: make([]bool, data), data: make([]*conn, data), complete: make(chan struct{})}
	if data == 0 {
		close(h.complete)
	}
	w.half[key] = h
	return h, nil
}

func (w waitingRoom) reserve(peer, session string, index, data int) (*halfOpen, *Error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	h := w.half[sessionKey{peer, session}]
	if h == nil || len(h.data) != data || h.reserved[index] {
		return nil, &Error{
			Code:    CodeSession,
			Message: fmt.Sprintf("no session %s waits for data connection %d", session, index),
			Hint:    "start the move again with `migrate move`",
		}
	}
	h.reserved[index] = true
	return h, nil
}

// join returns false if the session was given up; c is then still the caller's.
func (w waitingRoom) join(h *halfOpen, index int, c *conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.half[h.key] != h {
		return false
	}
	h.data[index] = c
	if !slices.Contains(h.data, nil) {
		close(h.complete)
	}
	return true
}

// close ends the waiting and returns the connections that came, which are the caller's now.
func (w waitingRoom) close(h *halfOpen) []*conn {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.half, h.key)
	return h.data
}
