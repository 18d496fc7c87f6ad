package transport

import (
	"container/list"
	"net"
	"sync"
)

// gate bounds the connections that have not proved a name yet. When it is full the oldest
// is closed: an honest handshake is over in milliseconds, so a flood of silent
// connections pushes out only its own.
type gate struct {
	mu     *sync.Mutex
	limit  int
	inside *list.List // of *ticket, oldest first
}

// ticket is a connection's place in the gate.
type ticket struct {
	conn  net.Conn
	place *list.Element // nil once it has left
}

func newGate(limit int) gate {
	return gate{mu: new(sync.Mutex), limit: limit, inside: list.New()}
}

func (g gate) enter(c net.Conn) *ticket {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.inside.Len() >= g.limit {
		g.expel(g.inside.Front().Value.(*ticket))
	}
	t := &ticket{conn: c}
	t.place = g.inside.PushBack(t)
	return t
}

// leave may be called again.
func (g gate) leave(t *ticket) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if t.place != nil {
		g.inside.Remove(t.place)
		t.place = nil
	}
}

func (g gate) closeAll() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.inside.Len() > 0 {
		g.expel(g.inside.Front().Value.(*ticket))
	}
}

// expel leaves it to the goroutine that serves the connection to see and report its end.
func (g gate) expel(t *ticket) {
	g.inside.Remove(t.place)
	t.place = nil
	_ = t.conn.Close()
}
