package caller

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/migrate-hpc/migrate/agent/api"
)

const (
	// MostConnections bounds the connections of one user to the local socket: one for each job
	// that is followed, and some more. Root has no bound.
	MostConnections = 512
	// MostAnswers bounds the refusals that are written at a time; further connections are closed.
	MostAnswers = 16
	// refusalTime bounds how long a refused connection may take to send its request and read the answer.
	refusalTime = time.Second
)

// ConnLimit is the local socket. It asks the kernel who connects, and keeps one user from using
// up the file descriptors that all need.
type ConnLimit struct {
	net.Listener
	most int

	refusalSlots chan struct{}
	refusals     sync.WaitGroup
	mu           sync.Mutex
	conns        map[uint32]int // connections, by user
}

// NewConnLimit bounds the connections of each user to l, root excepted.
func NewConnLimit(l net.Listener, most int) *ConnLimit {
	return &ConnLimit{Listener: l, most: most, conns: map[uint32]int{}, refusalSlots: make(chan struct{}, MostAnswers)}
}

// Accept refuses connections of users that have too many.
func (c *ConnLimit) Accept() (net.Conn, error) {
	for {
		conn, err := c.Listener.Accept()
		if err != nil {
			return nil, err
		}
		who, err := Credentials(conn)
		switch {
		case err != nil:
			return conn, nil // its requests are answered with a refusal
		case c.acquire(who):
			return &limitedConn{Conn: conn, caller: who, release: sync.OnceFunc(func() { c.release(who) })}, nil
		}
		who.Close()
		select {
		case c.refusalSlots <- struct{}{}:
			c.refusals.Go(func() {
				refuseConnection(conn, c.most)
				<-c.refusalSlots
			})
		default:
			_ = conn.Close()
		}
	}
}

// Close closes the socket and waits for refusals; accepted connections stay.
func (c *ConnLimit) Close() error {
	defer c.refusals.Wait()
	return c.Listener.Close()
}

func (c *ConnLimit) acquire(who Caller) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !who.Root() && c.conns[who.UID] >= c.most {
		return false
	}
	c.conns[who.UID]++
	return true
}

func (c *ConnLimit) release(who Caller) {
	c.mu.Lock()
	defer c.mu.Unlock()
	who.Close()
	if c.conns[who.UID]--; c.conns[who.UID] == 0 {
		delete(c.conns, who.UID)
	}
}

// limitedConn is a connection whose caller is known. Close frees its place.
type limitedConn struct {
	net.Conn
	caller  Caller
	release func()
}

// Close frees the place of the connection, too.
func (g *limitedConn) Close() error {
	defer g.release()
	return g.Conn.Close()
}

// refuseConnection reads a request before it answers: a client takes an answer that comes before
// its request for none.
func refuseConnection(conn net.Conn, most int) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(refusalTime))
	if _, err := conn.Read(make([]byte, 64<<10)); err != nil {
		return
	}
	text, err := json.Marshal(&api.Error{Code: api.CodeBusy, Message: fmt.Sprintf("you have %d connections to this node's agent, and no user may have more", most),
		Hint: "end commands that wait or follow a job; `migrate run -d` starts jobs without staying connected"})
	if err != nil {
		return
	}
	const code = http.StatusTooManyRequests
	_, _ = fmt.Fprintf(conn, "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", code, http.StatusText(code), len(text), text)
}
