package transport

import (
	"fmt"
	"slices"
	"sync"
)

// pendingSessions is where sessions wait for their data connections:
//
//	control arrives ── open ──► half open ──(reserve, answer, join) × data──► complete
//	                                │                                            │
//	                                └── out of time ──► close ◄── taken ─────────┘
//
// A place is reserved before the answer goes out and filled after it. So no sender can
// write to a data connection ahead of its hello.
type pendingSessions struct {
	mu       *sync.Mutex
	limit    int
	sessions map[sessionKey]*pendingSession
}

// sessionKey holds the node as well: no node can join another node's session.
type sessionKey struct{ peer, session string }

type pendingSession struct {
	key      sessionKey
	reserved []bool
	data     []*conn
	complete chan struct{} // closed when data is full
}

func newPendingSessions(limit int) pendingSessions {
	return pendingSessions{mu: new(sync.Mutex), limit: limit, sessions: make(map[sessionKey]*pendingSession)}
}

func (w pendingSessions) open(peer, session string, data int) (*pendingSession, *Error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	key := sessionKey{peer, session}
	if len(w.sessions) >= w.limit || w.sessions[key] != nil {
		return nil, &Error{
			Code:    CodeBusy,
			Message: fmt.Sprintf("%d sessions are being set up", len(w.sessions)),
			Hint:    "`migrate move` again in a few seconds",
		}
	}
	h := &pendingSession{key: key, reserved: make([]bool, data), data: make([]*conn, data), complete: make(chan struct{})}
	if data == 0 {
		close(h.complete)
	}
	w.sessions[key] = h
	return h, nil
}

func (w pendingSessions) reserve(peer, session string, index, data int) (*pendingSession, *Error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	h := w.sessions[sessionKey{peer, session}]
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
func (w pendingSessions) join(h *pendingSession, index int, c *conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.sessions[h.key] != h {
		return false
	}
	h.data[index] = c
	if !slices.Contains(h.data, nil) {
		close(h.complete)
	}
	return true
}

// close ends the waiting and returns the connections that came, which are the caller's now.
func (w pendingSessions) close(h *pendingSession) []*conn {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.sessions, h.key)
	return h.data
}
