package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/migrate-hpc/migrate/logkey"
	"github.com/migrate-hpc/migrate/transport/pki"
)

// Listener serves the one port of an agent. Connections are set up concurrently, each
// within 10 s, so that a slow or silent one holds up no other.
type Listener struct {
	options
	net         net.Listener
	id          *pki.Identity
	config      *tls.Config
	log         *slog.Logger
	ctx         context.Context // ends with Close
	stop        context.CancelCauseFunc
	handshaking handshakes
	pending     pendingSessions
	ready       chan *Session
	web         *httpListener
	running     sync.WaitGroup
	failed      chan struct{} // closed when ln is lost
	err         error         // why, once failed is closed
}

// NewListener starts to serve ln, which it owns from now on. Connections that are
// refused are logged at Warn level.
func NewListener(ln net.Listener, id *pki.Identity, log *slog.Logger, set ...Option) *Listener {
	config := id.ServerConfig()
	config.NextProtos = []string{alpnMove, alpnHTTP}
	l := &Listener{
		options: newOptions(set), net: ln, id: id, config: config, log: log,
		ready: make(chan *Session), failed: make(chan struct{}),
		handshaking: newHandshakes(maxHandshaking), pending: newPendingSessions(maxHalfOpen),
	}
	l.ctx, l.stop = context.WithCancelCause(context.Background())
	l.web = newHTTPListener(l.ctx, ln.Addr())
	l.running.Go(l.accept)
	return l
}

// Addr is the address that ln listens on.
func (l *Listener) Addr() net.Addr { return l.net.Addr() }

// HTTP returns the listener for an http.Server; its connections are authenticated and
// PeerOf tells the peer of a request. Until a server accepts from it, and after it was
// closed, HTTP connections are dropped after the time limit. There is only one.
func (l *Listener) HTTP() net.Listener { return l.web }

// Accept returns the next session of which all connections have arrived. The caller
// closes it; Close of the listener does not.
func (l *Listener) Accept(ctx context.Context) (*Session, error) {
	select {
	case s := <-l.ready:
		return s, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-l.failed:
		return nil, l.err
	}
}

// Close stops listening, drops every connection that was not handed out and waits until
// nothing of the listener runs.
func (l *Listener) Close() error {
	l.stop(net.ErrClosed)
	err := l.net.Close()
	l.handshaking.closeAll()
	l.running.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// accept rides out what passes, such as a lack of file descriptors.
func (l *Listener) accept() {
	defer close(l.failed)
	pause := time.Duration(0)
	for {
		raw, err := l.net.Accept()
		if err == nil {
			pause = 0
			l.running.Go(func() { l.serve(raw) })
			continue
		}
		var passing interface{ Temporary() bool }
		if l.ctx.Err() != nil || !errors.As(err, &passing) || !passing.Temporary() {
			l.err = fmt.Errorf("accept connections at %s: %w", l.net.Addr(), err)
			return
		}
		pause = min(max(2*pause, 5*time.Millisecond), time.Second)
		l.log.Warn("cannot accept connections", logkey.Err, err, logkey.Pause, pause)
		select {
		case <-time.After(pause):
		case <-l.ctx.Done():
		}
	}
}

// serve sets up one connection and either hands it out or closes it.
func (l *Listener) serve(raw net.Conn) {
	deadline := time.Now().Add(l.timeout)
	ctx, cancel := context.WithDeadline(l.ctx, deadline)
	defer cancel()
	ticket := l.handshaking.enter(raw)
	defer l.handshaking.leave(ticket)
	err := errors.Join(raw.SetDeadline(deadline), tuneTCP(raw))
	if err == nil {
		err = l.setUp(ctx, raw, ticket)
	}
	if err != nil && l.ctx.Err() == nil {
		l.log.Warn("connection refused", logkey.Remote, raw.RemoteAddr().String(), logkey.Err, err)
	}
}

// during runs wait, which reads from or writes to c, and ends it when the listener closes.
func (l *Listener) during(c *conn, wait func() error) error {
	stop := context.AfterFunc(l.ctx, func() {
		// Fails on a closed connection only, on which nothing waits.
		_ = c.SetDeadline(time.Unix(1, 0))
	})
	err := wait()
	if !stop() {
		return errors.Join(context.Cause(l.ctx), err)
	}
	return err
}

// setUp owns raw: if it returns an error, raw is closed.
func (l *Listener) setUp(ctx context.Context, raw net.Conn, ticket *handshake) error {
	wire := &wireConn{Conn: raw}
	c := &conn{Conn: tls.Server(wire, l.config), wire: wire}
	if err := c.HandshakeContext(ctx); err != nil {
		linger(raw)
		return errors.Join(err, raw.Close())
	}
	var err error
	switch protocol := c.ConnectionState().NegotiatedProtocol; protocol {
	case alpnHTTP:
		err = l.web.offer(ctx, c)
	case alpnMove:
		err = l.greet(ctx, c, ticket)
	default:
		err = fmt.Errorf("protocol %q: this port speaks %s and %s", protocol, alpnMove, alpnHTTP)
	}
	if err != nil {
		return errors.Join(err, c.Close())
	}
	return nil
}

// linger lets the alert that says why arrive: closing with unread bytes in the receive
// buffer makes the kernel reset the connection, and the peer would lose the alert.
func linger(raw net.Conn) {
	half, ok := raw.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil || raw.SetReadDeadline(time.Now().Add(time.Second)) != nil {
		return
	}
	// Whatever arrives is discarded, and so is the reason why nothing more does.
	_, _ = io.CopyN(io.Discard, raw, 64<<10)
}
