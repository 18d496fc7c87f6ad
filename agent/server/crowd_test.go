package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/agent/caller"
	"github.com/migrate-hpc/migrate/osthread"
	"github.com/migrate-hpc/migrate/testenv"
)

// dialAs connects as a user.
func dialAs(t *testing.T, uid int, socket string) net.Conn {
	t.Helper()
	var conn net.Conn
	err := osthread.Throwaway(func() (err error) {
		// Of this thread alone, which is what the kernel notes.
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), uintptr(uid), ^uintptr(0)); errno != 0 {
			return errno
		}
		conn, err = net.Dial("unix", socket)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// askedOver makes a request on a connection, as a client does.
func askedOver(conn net.Conn) (string, error) {
	client := http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil }}, Timeout: testenv.Patience}
	r, err := client.Get("http://agent/")
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	text := make([]byte, 4096)
	n, _ := r.Body.Read(text)
	return fmt.Sprint(r.StatusCode, " ", string(text[:n])), nil
}

func crowded(t *testing.T, most int) (socket string) {
	t.Helper()
	testenv.NeedRoot(t)
	socket = filepath.Join(testenv.OpenDir(t), "agent.sock")
	l, err := net.Listen("unix", socket)
	if err == nil {
		err = os.Chmod(socket, 0o666)
	}
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, _ := r.Context().Value(caller.CallerKey{}).(caller.Caller)
		fmt.Fprintf(w, "you are %d", c.UID)
	})
	go func() { ended <- Serve(ctx, caller.NewConnLimit(l, most), h, caller.FromSocket) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	return socket
}

func TestAUserWithTooManyConnectionsIsToldAndNobodyElseNoticesIt(t *testing.T) {
	const most = 5
	socket := crowded(t, most)
	var first net.Conn
	for i := range most {
		c := dialAs(t, 1001, socket)
		if got, err := askedOver(c); got != "200 you are 1001" {
			t.Fatalf("connection %d: %q, %v", i, got, err)
		}
		first = c
	}
	if got, err := askedOver(dialAs(t, 1001, socket)); !strings.HasPrefix(got, "429 ") || !strings.Contains(got, "5 connections") || !strings.Contains(got, "run -d") {
		t.Errorf("one too many: %q, %v", got, err)
	}
	for _, uid := range []int{1002, 0} {
		for range most {
			if got, err := askedOver(dialAs(t, uid, socket)); got != fmt.Sprint("200 you are ", uid) {
				t.Errorf("user %d: %q, %v", uid, got, err)
			}
		}
	}
	if got, err := askedOver(dialAs(t, 0, socket)); got != "200 you are 0" {
		t.Errorf("root: %q, %v", got, err)
	}
	first.Close()
	for end := time.Now().Add(testenv.Patience); ; time.Sleep(time.Millisecond) {
		if got, err := askedOver(dialAs(t, 1001, socket)); got == "200 you are 1001" {
			break
		} else if time.Now().After(end) {
			t.Fatalf("when one has gone: %q, %v", got, err)
		}
	}
}

// Those who ask for nothing are not waited for.
func TestManyTooManyConnectionsHoldUpNobody(t *testing.T) {
	socket := crowded(t, 1)
	for range 10 * caller.MostAnswers {
		dialAs(t, 1001, socket)
	}
	if got, err := askedOver(dialAs(t, 1002, socket)); got != "200 you are 1002" {
		t.Errorf("%q, %v", got, err)
	}
}
