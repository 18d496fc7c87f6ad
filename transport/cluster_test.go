package transport

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/migrate-hpc/migrate/transport/pki"
)

// patience is how long a test waits for what should happen at once.
const patience = time.Minute

// cluster is a CA in a temporary directory.
type cluster struct{ dir string }

func newCluster(t testing.TB) cluster {
	t.Helper()
	c := cluster{t.TempDir()}
	if err := pki.Init(c.dir, "test", time.Hour); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c cluster) node(t testing.TB, name string) *pki.Identity {
	t.Helper()
	out := filepath.Join(t.TempDir(), name)
	if err := pki.Issue(c.dir, name, time.Minute, out); err != nil {
		t.Fatal(err)
	}
	id, err := pki.Load(out)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// expired is a node whose certificate ended: Load would refuse it, a broken agent might not.
func (c cluster) expired(t testing.TB, name string) *pki.Identity {
	t.Helper()
	out := filepath.Join(t.TempDir(), name)
	if err := pki.Issue(c.dir, name, time.Nanosecond, out); err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(out, "node.crt"), filepath.Join(out, "node.key"))
	if err != nil {
		t.Fatal(err)
	}
	return &pki.Identity{Node: name, Cert: pair, CA: c.node(t, name).CA}
}

func listen(t testing.TB, id *pki.Identity, set ...Option) *Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := NewListener(ln, id, discard(), set...)
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// pair returns both ends of a session between nodes a (dialler) and b.
func pair(t testing.TB, data int, set ...Option) (dialled, accepted *Session) {
	t.Helper()
	c := newCluster(t)
	l := listen(t, c.node(t, "b"), set...)
	ctx := testContext(t)
	dialled, err := Dial(ctx, l.Addr().String(), "b", c.node(t, "a"), data, set...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dialled.Close() })
	accepted, err = l.Accept(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { accepted.Close() })
	return dialled, accepted
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }
