package shim

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"sync"
	"testing"

	"github.com/migrate-hpc/migrate/testenv"
)

func TestConnectionsThatBreakChangeNothing(t *testing.T) {
	s := newScene(t, "exec sleep 1000")
	c := s.start(t)
	for _, said := range []string{"", "POST /release HTTP/1.1\r\nHost: shim\r\nContent-Length: 100\r\n\r\n{", "GARBAGE\r\n\r\n", "POST /signal HTTP/1.1\r\nHost: shim\r\nContent-Length: 9\r\n\r\n{\"sig"} {
		conn, err := net.Dial("unix", filepath.Join(s.cfg.RunDir, socketName))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write([]byte(said)); err != nil {
			t.Fatal(err)
		}
		if err := conn.Close(); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := c.Status(ctx); err == nil || errors.Is(err, ErrGone) {
		t.Errorf("a caller without time hears %v", err)
	}
	if now := state(t, c); now != Running {
		t.Errorf("the job is %s", now)
	}
	if frozen, err := s.cfg.Cgroup.Frozen(); err != nil || frozen {
		t.Errorf("frozen: %v %v", frozen, err)
	}
}

func TestAShimThatGoesWhileItIsAskedIsGone(t *testing.T) {
	for _, goes := range []bool{true, false} {
		dir := t.TempDir()
		l, err := net.Listen("unix", filepath.Join(dir, socketName))
		if err != nil {
			t.Fatal(err)
		}
		var shim sync.WaitGroup
		shim.Go(func() {
			conn, err := l.Accept()
			if err != nil {
				t.Error(err)
				return
			}
			if goes {
				_ = l.Close()
			}
			_ = conn.Close()
		})
		if _, err := Find(dir).Status(testenv.Bounded(t)); err == nil || errors.Is(err, ErrGone) != goes {
			t.Errorf("goes: %v; got %v", goes, err)
		}
		_ = l.Close()
		shim.Wait()
	}
}

func TestADirectoryWithoutAShimIsGone(t *testing.T) {
	dir := t.TempDir()
	l, err := net.Listen("unix", filepath.Join(dir, socketName))
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := l.Close(); err != nil { // as a shim that was killed leaves it
		t.Fatal(err)
	}
	for _, d := range []string{dir, t.TempDir(), "/no/such/directory"} {
		c := Find(d)
		if _, err := c.Status(testenv.Bounded(t)); !errors.Is(err, ErrGone) {
			t.Errorf("%s: %v", d, err)
		}
		if err := c.Drop(testenv.Bounded(t)); err != nil || c.Resumed() {
			t.Errorf("%s: drop %v", d, err)
		}
	}
}
