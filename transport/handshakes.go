package transport

import (
	"container/list"
	"net"
	"sync"
)

// handshakes bounds the connections that have not proved a name yet. When it is full the oldest
// is closed: an honest handshake is over in milliseconds, so a flood of silent
// connections pushes out its own and nobody else's.
type handshakes struct {
	mu    *sync.Mutex
	limit int
	conns *list.List // of *ticket, oldest first
}

// handshake is a connection's place in the gate.
type handshake struct {
	conn  net.Conn
	place *list.Element // nil once it has left
}

func newHandshakes(limit int) handshakes {
	return handshakes{mu: new(sync.Mutex), limit: limit, conns: list.New()}
}

func (g handshakes) enter(c net.Conn) *handshake {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.conns.Len() >= g.limit {
		g.evict(g.conns.Front().Value.(*handshake))
	}
	t := &handshake{conn: c}
	t.place = g.conns.PushBack(t)
	return t
}

// leave may be called again.
func (g handshakes) leave(t *handshake) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if t.place != nil {
		g.conns.Remove(t.place)
		t.place = nil
	}
}

func (g handshakes) closeAll() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.conns.Len() > 0 {
		g.evict(g.conns.Front().Value.(*handshake))
	}
}

// evict leaves it to the goroutine that serves the connection to see and report its end.
func (g handshakes) evict(t *handshake) {
	g.conns.Remove(t.place)
	t.place = nil
	_ = t.conn.Close()
}
