package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/migrate-hpc/migrate/transport/pki"
)

func TestOnlyANodeOfTheClusterGetsASession(t *testing.T) {
	c := newCluster(t)
	l := listen(t, c.node(t, "b"))
	foreign := newCluster(t).node(t, "a")
	sameCA := *foreign
	sameCA.CA = c.node(t, "a").CA
	noCert := *c.node(t, "a")
	noCert.Cert = tls.Certificate{}
	for name, test := range map[string]struct {
		id   *pki.Identity
		peer string
		say  string
	}{
		"our CA is another":         {foreign, "b", "unknown authority"},
		"their CA is another":       {&sameCA, "b", "same cluster CA"},
		"no certificate":            {&noCert, "b", "same cluster CA"},
		"expired certificate":       {c.expired(t, "a"), "b", "valid today"},
		"the node there is another": {c.node(t, "a"), "c", "not c"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := Dial(testContext(t), l.Addr().String(), test.peer, test.id, 1)
			if err == nil {
				s.Close()
				t.Fatal("got a session")
			}
			if !strings.Contains(err.Error(), test.say) {
				t.Errorf("%v: does not say %q", err, test.say)
			}
		})
	}
	if s, err := Dial(testContext(t), l.Addr().String(), "b", c.node(t, "a"), 1); err != nil {
		t.Errorf("a good node afterwards: %v", err)
	} else {
		s.Close()
	}
}

func TestAnExpiredListenerIsRefused(t *testing.T) {
	c := newCluster(t)
	l := listen(t, c.expired(t, "b"))
	_, err := Dial(testContext(t), l.Addr().String(), "b", c.node(t, "a"), 0)
	if err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("%v", err)
	}
}

// greetAs opens a connection as id and says h on it, whatever it claims.
func greetAs(t *testing.T, l *Listener, id *pki.Identity, h Hello) (Hello, error) {
	t.Helper()
	d := dialler{addr: l.Addr().String(), peer: "b", id: id, options: newOptions(nil)}
	c, err := d.connect(testContext(t), alpnMove)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := WriteHello(c, h); err != nil {
		t.Fatal(err)
	}
	return ReadHello(c)
}

func TestAHelloThatDoesNotFitIsRefusedWithTheReason(t *testing.T) {
	c := newCluster(t)
	l, id := listen(t, c.node(t, "b")), c.node(t, "a")
	good := someHello()
	good.Node, good.Role, good.Index = "a", Control, 0
	for code, change := range map[string]func(*Hello){
		CodeIdentity: func(h *Hello) { h.Node = "c" },
		CodeVersion:  func(h *Hello) { h.VersionMin, h.VersionMax = 98, 99 },
		CodeSession:  func(h *Hello) { h.Role = Data },
	} {
		h := good
		change(&h)
		answer, err := greetAs(t, l, id, h)
		if err != nil || answer.Refused == nil || answer.Refused.Code != code || answer.Refused.Hint == "" {
			t.Errorf("%s: %+v, %v", code, answer.Refused, err)
		}
	}
}

func TestNobodyJoinsAnotherNodesSession(t *testing.T) {
	c := newCluster(t)
	l := listen(t, c.node(t, "b"))
	h := someHello()
	h.Node, h.Role, h.Index = "a", Control, 0
	if answer, err := greetAs(t, l, c.node(t, "a"), h); err != nil || answer.Refused != nil {
		t.Fatal(answer.Refused, err)
	}
	h.Role = Data
	thief := h
	thief.Node = "c"
	if answer, err := greetAs(t, l, c.node(t, "c"), thief); err != nil || answer.Refused == nil || answer.Refused.Code != CodeSession {
		t.Errorf("another node: %+v, %v", answer.Refused, err)
	}
	for _, again := range []bool{false, true} {
		answer, err := greetAs(t, l, c.node(t, "a"), h)
		if err != nil || (answer.Refused != nil) != again {
			t.Errorf("same place again: %v: %+v, %v", again, answer.Refused, err)
		}
	}
}

func TestAnIncompleteSessionIsGivenUp(t *testing.T) {
	c := newCluster(t)
	l := listen(t, c.node(t, "b"), withTimeout(300*time.Millisecond))
	h := someHello()
	h.Node, h.Role, h.Index = "a", Control, 0
	d := dialler{addr: l.Addr().String(), peer: "b", id: c.node(t, "a"), options: newOptions(nil)}
	conn, err := d.connect(testContext(t), alpnMove)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := WriteHello(conn, h); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadHello(conn); err != nil {
		t.Fatal(err)
	}
	if err := confirm(conn, time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if n, err := conn.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("read %d bytes, %v; want the connection closed", n, err)
	}
	l.pending.mu.Lock()
	defer l.pending.mu.Unlock()
	if n := len(l.pending.sessions); n != 0 {
		t.Errorf("%d sessions still wait", n)
	}
}

func TestSessionsBeingSetUpAreBounded(t *testing.T) {
	w := newPendingSessions(2)
	for i := range 2 {
		if _, reason := w.open("a", fmt.Sprint(i), 1); reason != nil {
			t.Fatal(reason)
		}
	}
	if _, reason := w.open("a", "2", 1); reason == nil || reason.Code != CodeBusy {
		t.Errorf("a third one: %v", reason)
	}
}

func TestSilentConnectionsHoldUpNobody(t *testing.T) {
	c := newCluster(t)
	l := listen(t, c.node(t, "b"))
	for range maxHandshaking + 10 {
		silent, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer silent.Close()
	}
	s, err := Dial(testContext(t), l.Addr().String(), "b", c.node(t, "a"), 2)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
}

func TestASilentConnectionIsClosedInTime(t *testing.T) {
	l := listen(t, newCluster(t).node(t, "b"), withTimeout(50*time.Millisecond))
	silent, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	if err := silent.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, silent); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("still open")
	}
}

func TestWhoSpeaksNoTLSGetsNothing(t *testing.T) {
	l := listen(t, newCluster(t).node(t, "b"))
	plain := http.Client{Timeout: patience}
	resp, err := plain.Get("http://" + l.Addr().String() + "/")
	if err == nil {
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			t.Error("plain HTTP was served")
		}
	}
}

func TestAnotherProtocolIsRefused(t *testing.T) {
	c := newCluster(t)
	l := listen(t, c.node(t, "b"))
	for _, protocols := range [][]string{{"h2"}, nil} {
		config := c.node(t, "a").ClientConfig("b")
		config.NextProtos = protocols
		conn, err := tls.Dial("tcp", l.Addr().String(), config)
		if err != nil {
			continue
		}
		if _, err := conn.Read(make([]byte, 1)); err == nil {
			t.Errorf("protocols %q: still open", protocols)
		}
		conn.Close()
	}
}

// serveNames answers every request with the name of the node that sent it.
func serveNames(t *testing.T, l *Listener) {
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		peer, err := PeerOf(r)
		fmt.Fprint(w, peer, err)
	})}
	var all sync.WaitGroup
	all.Go(func() {
		if err := server.Serve(l.HTTP()); !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("serve HTTP: %v", err)
		}
	})
	t.Cleanup(func() {
		server.Close()
		all.Wait()
	})
}

func TestHTTPAndMovesShareThePort(t *testing.T) {
	c := newCluster(t)
	l := listen(t, c.node(t, "b"))
	serveNames(t, l)
	client := http.Client{Transport: HTTPTransport(l.Addr().String(), "b", c.node(t, "a")), Timeout: patience}
	defer client.CloseIdleConnections()
	for range 3 {
		resp, err := client.Get("https://b/jobs")
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || string(body) != "a<nil>" {
			t.Errorf("%q, %v", body, err)
		}
		s, err := Dial(testContext(t), l.Addr().String(), "b", c.node(t, "a"), 1)
		if err != nil {
			t.Fatal(err)
		}
		s.Close()
	}
}

func TestHTTPToAnotherNodeIsRefused(t *testing.T) {
	c := newCluster(t)
	l := listen(t, c.node(t, "b"))
	serveNames(t, l)
	client := http.Client{Transport: HTTPTransport(l.Addr().String(), "c", c.node(t, "a")), Timeout: patience}
	if resp, err := client.Get("https://c/jobs"); err == nil {
		resp.Body.Close()
		t.Error("node b answered for c")
	}
}

func TestAcceptEndsWithItsContext(t *testing.T) {
	l := listen(t, newCluster(t).node(t, "b"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Accept(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want context.Canceled", err)
	}
}

func TestCloseEndsWhatIsBeingSetUpAndKeepsSessions(t *testing.T) {
	c := newCluster(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := NewListener(ln, c.node(t, "b"), discard())
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
	h := someHello()
	h.Node, h.Role, h.Index = "a", Control, 0
	if _, err := greetAs(t, l, c.node(t, "a"), h); err != nil {
		t.Fatal(err)
	}
	silent, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()

	begin := time.Now()
	if err := errors.Join(l.Close(), l.Close()); err != nil {
		t.Error(err)
	}
	if took := time.Since(begin); took > setUpTimeout/2 {
		t.Errorf("Close took %s", took)
	}
	if _, err := l.Accept(t.Context()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept: %v, want net.ErrClosed", err)
	}
	send(t, s, "still here", nil)
	if m, err := accepted.Recv(); err != nil || m.Type != "still here" {
		t.Errorf("%+v, %v", m, err)
	}
}

func TestDialEndsWithItsContext(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	id := newCluster(t).node(t, "a")
	if _, err := Dial(ctx, silent.Addr().String(), "b", id, 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, want context.DeadlineExceeded", err)
	}
	if _, err := Dial(t.Context(), silent.Addr().String(), "b", id, MaxData+1); err == nil {
		t.Error("dialled more than MaxData connections")
	}
}
