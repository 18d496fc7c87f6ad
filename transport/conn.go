package transport

import (
	"bufio"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A peer that is gone without a word is noticed after keepIdle + keepCount×keepEvery
// when the connection is idle, and after unackedLimit when it is sending. The second
// also limits how long a receiver may leave its window shut (Linux 5.0 and later), so
// it is generous.
const (
	keepIdle     = 15 * time.Second
	keepEvery    = 5 * time.Second
	keepCount    = 4
	unackedLimit = 60 * time.Second
)

func keepAlive() net.KeepAliveConfig {
	return net.KeepAliveConfig{Enable: true, Idle: keepIdle, Interval: keepEvery, Count: keepCount}
}

// tuneTCP sets what notices a dead peer. Other kinds of connections pass untouched.
func tuneTCP(c net.Conn) error {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return nil
	}
	if err := tcp.SetKeepAliveConfig(keepAlive()); err != nil {
		return err
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	err = raw.Control(func(fd uintptr) {
		set = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(unackedLimit.Milliseconds()))
	})
	return errors.Join(err, set)
}

// How many bytes of TLS records go into one system call.
const (
	gatherSize = 256 << 10 // writing
	aheadSize  = 128 << 10 // reading
)

// wireConn lies beneath TLS: it counts what crosses the wire and gathers the records of
// one write, which TLS would send in a system call each. On data connections it also
// reads ahead, for the same reason.
type wireConn struct {
	net.Conn
	ahead          *bufio.Reader // nil: read directly
	sent, received atomic.Int64

	busy atomic.Bool // between gather and release

	mu      sync.Mutex
	pending []byte
	broken  error // of the first write that failed: the records after it are worthless
}

func (c *wireConn) Read(p []byte) (int, error) {
	if c.ahead != nil {
		return c.ahead.Read(p)
	}
	return c.receive(p)
}

func (c *wireConn) receive(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.received.Add(int64(n))
	return n, err
}

// readAhead is for set-up, before the stream has a reader.
func (c *wireConn) readAhead() {
	c.ahead = bufio.NewReaderSize(readerFunc(c.receive), aheadSize)
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func (c *wireConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.busy.Load() {
		return c.send(p)
	}
	if len(c.pending)+len(p) > gatherSize {
		if err := c.sendPending(); err != nil {
			return 0, err
		}
	}
	c.pending = append(c.pending, p...)
	return len(p), nil
}

func (c *wireConn) send(p []byte) (int, error) {
	if c.broken != nil {
		return 0, c.broken
	}
	n, err := c.Conn.Write(p)
	c.sent.Add(int64(n))
	c.broken = err
	return n, err
}

func (c *wireConn) sendPending() error {
	if len(c.pending) == 0 {
		return c.broken
	}
	_, err := c.send(c.pending)
	c.pending = c.pending[:0]
	return err
}

func (c *wireConn) gather() { c.busy.Store(true) }

func (c *wireConn) release() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.busy.Store(false)
	return c.sendPending()
}

// conn is one authenticated connection. Its Write returns when everything has been
// handed to the kernel. It is for one writer and one reader at a time.
type conn struct {
	*tls.Conn
	wire *wireConn
	trip time.Duration // what the TCP handshake took; 0 for one that was accepted
}

func (c *conn) Write(p []byte) (int, error) { return c.WritePair(p, nil) }

// WritePair sends head and body as one.
func (c *conn) WritePair(head, body []byte) (n int, err error) {
	c.wire.gather()
	n, err = c.Conn.Write(head)
	if err == nil && len(body) > 0 {
		var m int
		m, err = c.Conn.Write(body)
		n += m
	}
	if flush := c.wire.release(); err == nil {
		err = flush
	}
	return n, err
}

// Close says goodbye and closes, at once if a write is stuck. That the peer did so first
// is no error: what matters was confirmed by messages and by the ENDs of streams.
func (c *conn) Close() error {
	if c.wire.busy.Load() {
		return c.wire.Conn.Close()
	}
	err := c.Conn.Close()
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
