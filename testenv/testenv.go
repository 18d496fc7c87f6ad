package testenv

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/migrate-hpc/migrate/transport/pki"
)

// Patience is how long a test waits for what should happen at once.
const Patience = time.Minute

// Missing skips a test for want of a prerequisite. In CI everything must run.
func Missing(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// NeedRoot skips a test of what only root may do: act as another user, mount, make namespaces.
func NeedRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		Missing(t, "not root")
	}
}

// Bounded is a context that ends with the test, or after Patience.
func Bounded(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	t.Cleanup(cancel)
	return ctx
}

// Eventually waits until something is so.
func Eventually(t testing.TB, is func() bool) {
	t.Helper()
	for end := time.Now().Add(Patience); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v", Patience)
		}
	}
}

// OpenDir is a directory that every user gets through to.
func OpenDir(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	for d := dir; d != os.TempDir(); d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// MemoryDir is a directory in memory where there is such a place: for tests that write much, and of
// which no power cut has to be survived.
func MemoryDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "migrate-test-*")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// Authority issues certificates to the nodes of one cluster. It is the directory of its CA.
type Authority string

// NewAuthority makes the CA of a cluster.
func NewAuthority(t testing.TB) Authority {
	t.Helper()
	dir := t.TempDir()
	if err := pki.Init(dir, "test", time.Hour); err != nil {
		t.Fatal(err)
	}
	return Authority(dir)
}

// Node is the identity of a node with that name.
func (ca Authority) Node(t testing.TB, name string) *pki.Identity {
	t.Helper()
	out := filepath.Join(t.TempDir(), name)
	if err := pki.Issue(string(ca), name, time.Minute, out); err != nil {
		t.Fatal(err)
	}
	id, err := pki.Load(out)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// Names lists a directory.
func Names(t testing.TB, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// PublicSocket listens on a socket that every user may connect to, as an agent's. The test must be
// root's.
func PublicSocket(t testing.TB) (path string, l net.Listener) {
	t.Helper()
	NeedRoot(t)
	path = filepath.Join(OpenDir(t), "agent.sock")
	l, err := net.Listen("unix", path)
	if err == nil {
		err = os.Chmod(path, 0o666)
	}
	if err != nil {
		t.Fatal(err)
	}
	return path, l
}
