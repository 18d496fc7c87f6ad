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
	// MostConnections is how many a user may have at the local socket: one for each job
	// that is followed, and some. Root may have any number.
	MostConnections = 512
	// MostAnswers is how many that are too many are told so at a time; others are hung up on.
	MostAnswers = 16
	// refusalTime is what they have to say what they want, and to hear.
	refusalTime = time.Second
)

// ConnLimit is the local socket. It knows who calls, and keeps one user from taking the
// file descriptors that all need.
type ConnLimit struct {
	net.Listener
	most int

	refusalSlots chan struct{}
	refusals     sync.WaitGroup
	mu           sync.Mutex
	conns        map[uint32]int // connections, by user
}

func NewConnLimit(l net.Listener, most int) *ConnLimit {
	return &ConnLimit{Listener: l, most: most, conns: map[uint32]int{}, refusalSlots: make(chan struct{}, MostAnswers)}
}

// Accept turns away whom there are too many of.
func (c *ConnLimit) Accept() (net.Conn, error) {
	for {
		conn, err := c.Listener.Accept()
		if err != nil {
			return nil, err
		}
		who, err := Credentials(conn)
		switch {
		case err != nil:
			return conn, nil // its requests are refused, and told so
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

// Close ends the socket; guests stay.
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

// limitedConn is a connection whose other end is known.
type limitedConn struct {
	net.Conn
	caller  Caller
	release func()
}

func (g *limitedConn) Close() error {
	defer g.release()
	return g.Conn.Close()
}

// refuseConnection answers a request, whatever it is: an answer before that would be none to
// the client.
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
