package agent

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
	// mostConnections is how many a user may have at the local socket: one for each job
	// that is followed, and some. Root may have any number.
	mostConnections = 512
	// mostAnswers is how many that are too many are told so at a time; others are hung up on.
	mostAnswers = 16
	// answerTime is what they have to say what they want, and to hear.
	answerTime = time.Second
)

// crowd is the local socket. It knows who calls, and keeps one user from taking the
// file descriptors that all need.
type crowd struct {
	net.Listener
	most int

	answers chan struct{}
	told    sync.WaitGroup
	mu      sync.Mutex
	here    map[uint32]int // connections, by user
}

func newCrowd(l net.Listener, most int) *crowd {
	return &crowd{Listener: l, most: most, here: map[uint32]int{}, answers: make(chan struct{}, mostAnswers)}
}

// Accept turns away whom there are too many of.
func (c *crowd) Accept() (net.Conn, error) {
	for {
		conn, err := c.Listener.Accept()
		if err != nil {
			return nil, err
		}
		who, err := credentials(conn)
		switch {
		case err != nil:
			return conn, nil // its requests are refused, and told so
		case c.enter(who):
			return &guest{Conn: conn, who: who, leave: sync.OnceFunc(func() { c.leave(who) })}, nil
		}
		who.letGo()
		select {
		case c.answers <- struct{}{}:
			c.told.Go(func() {
				turnAway(conn, c.most)
				<-c.answers
			})
		default:
			_ = conn.Close()
		}
	}
}

// Close ends the socket; guests stay.
func (c *crowd) Close() error {
	defer c.told.Wait()
	return c.Listener.Close()
}

func (c *crowd) enter(who caller) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !who.root() && c.here[who.uid] >= c.most {
		return false
	}
	c.here[who.uid]++
	return true
}

func (c *crowd) leave(who caller) {
	c.mu.Lock()
	defer c.mu.Unlock()
	who.letGo()
	if c.here[who.uid]--; c.here[who.uid] == 0 {
		delete(c.here, who.uid)
	}
}

// guest is a connection whose other end is known.
type guest struct {
	net.Conn
	who   caller
	leave func()
}

func (g *guest) Close() error {
	defer g.leave()
	return g.Conn.Close()
}

// turnAway answers a request, whatever it is: an answer before that would be none to
// the client.
func turnAway(conn net.Conn, most int) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(answerTime))
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
