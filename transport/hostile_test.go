package transport

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/migrate-hpc/migrate/transport/pki"
)

// recorder keeps what is written to a connection.
type recorder struct {
	net.Conn
	mu   sync.Mutex
	sent []byte
}

func (r *recorder) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sent = append(r.sent, p...)
	return r.Conn.Write(p)
}

// recorded dials with every connection's bytes kept, in the order of dialling.
func recorded(all *[]*recorder) Option {
	var mu sync.Mutex
	return WithDialer(func(ctx context.Context, addr string) (net.Conn, error) {
		c, err := dialTCP(ctx, addr)
		if err != nil {
			return nil, err
		}
		r := &recorder{Conn: c}
		mu.Lock()
		defer mu.Unlock()
		*all = append(*all, r)
		return r, nil
	})
}

func TestConnectionsThatAreReplayedByteForByteAreRefused(t *testing.T) {
	c := newCluster(t)
	l := listen(t, c.node(t, "b"))
	var taken []*recorder
	s, err := Dial(testContext(t), l.Addr().String(), "b", c.node(t, "a"), 1, recorded(&taken))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	send(t, s, "commit", nil)
	accepted, err := l.Accept(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close()
	if m, err := accepted.Recv(); err != nil || m.Type != "commit" {
		t.Fatalf("%+v, %v", m, err)
	}
	for i, r := range taken {
		r.mu.Lock()
		sent := bytes.Clone(r.sent)
		r.mu.Unlock()
		again, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer again.Close()
		if err := again.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		if _, err := again.Write(sent); err != nil {
			continue // it was refused half-way
		}
		if _, err := io.Copy(io.Discard, again); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("connection %d: still open", i)
		}
	}
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if s, err := l.Accept(short); err == nil {
		s.Close()
		t.Error("a replay became a session")
	}
}

func TestDataConnectionsOfNoSessionThatWaitsAreRefused(t *testing.T) {
	c := newCluster(t)
	l := listen(t, c.node(t, "b"))
	s, err := Dial(testContext(t), l.Addr().String(), "b", c.node(t, "a"), 1)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	accepted, err := l.Accept(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close()
	half := someHello()
	half.Node, half.Role, half.Index, half.Data = "a", Control, 0, 2
	if answer, err := greetAs(t, l, c.node(t, "a"), half); err != nil || answer.Refused != nil {
		t.Fatal(answer.Refused, err)
	}
	data := func(session string, index, of int) Hello {
		h := half
		h.Role, h.Session, h.Index, h.Data = Data, session, index, of
		return h
	}
	for name, h := range map[string]Hello{
		"of a session that is complete": data(s.ID(), 0, 1),
		"ahead of its control":          data("ffffffffffffffffffffffffffffffff", 0, 1),
		"of another number":             data(half.Session, 2, 3),
	} {
		if answer, err := greetAs(t, l, c.node(t, "a"), h); err != nil || answer.Refused == nil || answer.Refused.Code != CodeSession {
			t.Errorf("%s: %+v, %v", name, answer.Refused, err)
		}
	}
	control := half
	control.Data = 1
	if answer, err := greetAs(t, l, c.node(t, "a"), control); err != nil || answer.Refused == nil {
		t.Errorf("control again: %+v, %v", answer.Refused, err)
	}
}

// answering is a listener with a good certificate that answers every hello as it is told.
func answering(t *testing.T, id *pki.Identity, answer func(theirs Hello) []byte) (addr string) {
	t.Helper()
	config := id.ServerConfig()
	config.NextProtos = []string{alpnMove}
	ln, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer c.Close()
				if theirs, err := ReadHello(c); err == nil {
					c.Write(answer(theirs))
				}
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		all.Wait()
	})
	return ln.Addr().String()
}

func said(h Hello) []byte {
	var b bytes.Buffer
	if err := WriteHello(&b, h); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func TestAnAnswerThatDoesNotFitIsRefused(t *testing.T) {
	c := newCluster(t)
	a, b := c.node(t, "a"), c.node(t, "b")
	for name, test := range map[string]struct {
		answer func(Hello) []byte
		want   error
	}{
		"another node":    {func(h Hello) []byte { h.Node = "c"; return said(h) }, ErrHello},
		"ours again":      {func(h Hello) []byte { return said(h) }, ErrHello},
		"another session": {func(h Hello) []byte { h.Node, h.Session = "b", "ffffffffffffffffffffffffffffffff"; return said(h) }, ErrHello},
		"another role":    {func(h Hello) []byte { h.Node, h.Role = "b", Data; return said(h) }, ErrHello},
		"fewer data":      {func(h Hello) []byte { h.Node, h.Data = "b", 0; return said(h) }, ErrHello},
		"later versions": {func(h Hello) []byte {
			h.Node, h.VersionMin, h.VersionMax = "b", VersionMax+1, VersionMax+2
			return said(h)
		}, new(Error)},
		"refused":   {func(h Hello) []byte { h.Node, h.Refused = "b", &Error{Code: CodeBusy}; return said(h) }, new(Error)},
		"cut short": {func(h Hello) []byte { h.Node = "b"; return said(h)[:20] }, io.ErrUnexpectedEOF},
		"huge":      {func(Hello) []byte { return []byte("MGRH\xff\xff\xff\xff") }, ErrHello},
		"no hello":  {func(Hello) []byte { return []byte("HTTP/1.1 200 OK\r\n\r\n") }, ErrHello},
	} {
		s, err := Dial(testContext(t), answering(t, b, test.answer), "b", a, 1)
		if err == nil {
			s.Close()
			t.Errorf("%s: got a session", name)
			continue
		}
		var wanted, told *Error
		if typed := errors.As(test.want, &wanted); typed && !errors.As(err, &told) || !typed && !errors.Is(err, test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestHTTPIsForNodesOfTheClusterOnly(t *testing.T) {
	c := newCluster(t)
	l := listen(t, c.node(t, "b"))
	serveNames(t, l)
	sameCA := *newCluster(t).node(t, "a")
	sameCA.CA = c.node(t, "a").CA
	bare := *c.node(t, "a")
	bare.Cert = tls.Certificate{}
	for name, id := range map[string]*pki.Identity{
		"our CA is another": newCluster(t).node(t, "a"), "their CA is another": &sameCA,
		"no certificate": &bare, "expired": c.expired(t, "a"),
	} {
		client := http.Client{Transport: HTTPTransport(l.Addr().String(), "b", id), Timeout: patience}
		if resp, err := client.Get("https://b/v1/jobs"); err == nil {
			resp.Body.Close()
			t.Errorf("%s: %s", name, resp.Status)
		}
	}
}

// pipes is a listener without a network, for tests in which time passes at once.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
}

func (p pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}
func (p pipes) Close() error   { close(p.done); return nil }
func (p pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes", Net: "unix"} }

func TestAPeerThatReadsNoMessagesIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, wire := newCluster(t), pipes{make(chan net.Conn), make(chan struct{})}
		l := NewListener(wire, c.node(t, "b"), discard())
		defer l.Close()
		accepted := make(chan *Session, 1)
		go func() {
			s, _ := l.Accept(t.Context())
			accepted <- s
		}()
		s, err := Dial(t.Context(), "pipes", "b", c.node(t, "a"), 0, WithDialer(func(context.Context, string) (net.Conn, error) {
			ours, theirs := net.Pipe()
			wire.conns <- theirs
			return ours, nil
		}))
		if err != nil {
			t.Fatal(err)
		}
		silent := <-accepted
		if err := s.Send(Message{Type: "commit"}); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		for _, end := range []*Session{s, silent} { // no end reads, so no goodbye arrives
			_ = end.Close()
		}
	})
}
