package transport

import (
	"context"
	"net"
	"sync"
	"time"
)

// httpListener passes HTTP connections on to an http.Server.
type httpListener struct {
	addr  net.Addr
	conns chan net.Conn
	outer context.Context // of the Listener
	once  sync.Once
	done  chan struct{}
}

func newHTTPListener(outer context.Context, addr net.Addr) *httpListener {
	return &httpListener{addr: addr, conns: make(chan net.Conn), outer: outer, done: make(chan struct{})}
}

// offer waits until the server takes c. http.Server wants to see the *tls.Conn itself, or
// it would not fill in Request.TLS.
func (h *httpListener) offer(ctx context.Context, c *conn) error {
	if err := c.SetDeadline(time.Time{}); err != nil {
		return err
	}
	select {
	case h.conns <- c.Conn:
		return nil
	case <-h.done:
		return net.ErrClosed
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (h *httpListener) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.done:
	case <-h.outer.Done():
	}
	return nil, net.ErrClosed
}

// Close stops HTTP only; moves go on.
func (h *httpListener) Close() error {
	h.once.Do(func() { close(h.done) })
	return nil
}

func (h *httpListener) Addr() net.Addr { return h.addr }
