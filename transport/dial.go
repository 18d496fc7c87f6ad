package transport

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/migrate-hpc/migrate/transport/pki"
)

// Dial opens a session of one control and n data connections (0 to MaxData) with the
// agent of peerNode at addr ("host:port"). It fails unless the certificate there names
// exactly peerNode. It takes at most 10 s, less if ctx ends before.
func Dial(ctx context.Context, addr, peerNode string, id *pki.Identity, n int, set ...Option) (*Session, error) {
	if n < 0 || n > MaxData {
		return nil, fmt.Errorf("dial node %s: %d data connections, allowed are 0 to %d", peerNode, n, MaxData)
	}
	d := dialler{addr: addr, peer: peerNode, id: id, options: newOptions(set)}
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	session, err := d.session(ctx, n)
	if err != nil {
		return nil, fmt.Errorf("dial node %s at %s: %w", peerNode, addr, explain(err))
	}
	return session, nil
}

type dialler struct {
	options
	addr, peer string
	id         *pki.Identity
}

func (d *dialler) session(ctx context.Context, n int) (*Session, error) {
	var random [sessionBytes]byte
	rand.Read(random[:])
	ours := Hello{VersionMin: VersionMin, VersionMax: VersionMax, Features: d.features,
		Node: d.id.Node, Session: hex.EncodeToString(random[:]), Role: Control, Data: n}
	s := &Session{id: ours.Session, peer: d.peer}
	if err := d.openControl(ctx, s, &ours); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	s.data = make([]*conn, ours.Data)
	if err := d.openData(ctx, s, ours); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// openControl opens the control connection, and completes our hello with the number of
// the others.
func (d *dialler) openControl(ctx context.Context, s *Session, ours *Hello) (err error) {
	err = d.open(ctx, &s.control, func(c *conn) error {
		if d.data != nil {
			ours.Data = min(max(d.data(c.trip), 1), MaxData)
		}
		theirs, exchanged, err := d.exchange(c, *ours)
		if err != nil {
			return err
		}
		s.skew, s.trip = exchanged.skew(theirs), exchanged.trip
		s.version, s.features, err = agree(*ours, theirs)
		if err != nil {
			return err
		}
		return confirm(c, time.Now())
	})
	return err
}

func (d *dialler) openData(ctx context.Context, s *Session, ours Hello) error {
	ours.Role = Data
	failed := make([]error, len(s.data))
	var all sync.WaitGroup
	for i := range s.data {
		hello := ours
		hello.Index = i
		all.Go(func() {
			failed[i] = d.open(ctx, &s.data[i], func(c *conn) error {
				_, _, err := d.exchange(c, hello)
				c.wire.readAhead()
				return err
			})
		})
	}
	all.Wait()
	return errors.Join(failed...)
}

// open makes one connection and greets on it; ctx ends all of it. *out is set as soon
// as there is something to close.
func (d *dialler) open(ctx context.Context, out **conn, greet func(*conn) error) error {
	c, err := d.connect(ctx, alpnMove)
	if err != nil {
		return err
	}
	*out = c
	stop := context.AfterFunc(ctx, func() {
		// Fails on a closed connection only, on which nothing waits.
		_ = c.SetDeadline(time.Unix(1, 0))
	})
	err = greet(c)
	if !stop() {
		return errors.Join(context.Cause(ctx), err)
	}
	return err
}

// connect returns a connection on which both sides' certificates have been checked by this side.
func (d *dialler) connect(ctx context.Context, alpn string) (*conn, error) {
	begin := time.Now()
	raw, err := d.dial(ctx, d.addr)
	if err != nil {
		return nil, err
	}
	trip := time.Since(begin)
	if err := tuneTCP(raw); err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	config := d.id.ClientConfig(d.peer)
	config.NextProtos = []string{alpn}
	wire := &wireConn{Conn: raw}
	c := &conn{Conn: tls.Client(wire, config), wire: wire, trip: trip}
	if err := c.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	return c, nil
}

// exchange sends our hello and returns the answer, checked against the name that was dialled.
func (d *dialler) exchange(c *conn, ours Hello) (Hello, exchanged, error) {
	begin := time.Now()
	ours.Time = begin.UnixNano()
	if err := WriteHello(c, ours); err != nil {
		return Hello{}, exchanged{}, err
	}
	theirs, err := ReadHello(c)
	if err != nil {
		return Hello{}, exchanged{}, err
	}
	timing := exchanged{begin, time.Since(begin)}
	if theirs.Refused != nil {
		return Hello{}, exchanged{}, theirs.Refused
	}
	if theirs.Node != d.peer || theirs.Session != ours.Session || theirs.Role != ours.Role || theirs.Index != ours.Index || theirs.Data != ours.Data {
		return Hello{}, exchanged{}, fmt.Errorf("%w: the answer of node %q is not to ours", ErrHello, theirs.Node)
	}
	return theirs, timing, nil
}

// explain adds the remedy to what TLS says when the peer refuses us, for it says so only with an alert.
func explain(err error) error {
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "remote error" {
		return fmt.Errorf("%w; the peer refused this node's certificate: check that both were issued by the same cluster CA and are valid today", err)
	}
	return err
}
