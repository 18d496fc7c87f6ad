package caller

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/migrate-hpc/migrate/testenv"
)

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

// serveLimited is a socket that serves each user over at most so many connections.
func serveLimited(t *testing.T, most int) (socket string) {
	t.Helper()
	socket, l := testenv.PublicSocket(t)
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, _ := r.Context().Value(ContextKey{}).(Caller)
		fmt.Fprintf(w, "you are %d", c.UID)
	})
	srv := &http.Server{Handler: h, ConnContext: FromSocket}
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(NewConnLimit(l, most)) }()
	t.Cleanup(func() {
		_ = srv.Close()
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return socket
}

func TestConnLimitTellsAUserWithTooManyAndDisturbsNoOther(t *testing.T) {
	const most = 5
	socket := serveLimited(t, most)
	var first net.Conn
	for i := range most {
		c := testenv.DialAs(t, 1001, socket)
		if got, err := askedOver(c); got != "200 you are 1001" {
			t.Fatalf("connection %d: %q, %v", i, got, err)
		}
		first = c
	}
	if got, err := askedOver(testenv.DialAs(t, 1001, socket)); !strings.HasPrefix(got, "429 ") || !strings.Contains(got, "5 connections") || !strings.Contains(got, "run -d") {
		t.Errorf("one too many: %q, %v", got, err)
	}
	for _, uid := range []int{1002, 0} {
		for range most {
			if got, err := askedOver(testenv.DialAs(t, uid, socket)); got != fmt.Sprint("200 you are ", uid) {
				t.Errorf("user %d: %q, %v", uid, got, err)
			}
		}
	}
	if got, err := askedOver(testenv.DialAs(t, 0, socket)); got != "200 you are 0" {
		t.Errorf("root: %q, %v", got, err)
	}
	first.Close()
	for end := time.Now().Add(testenv.Patience); ; time.Sleep(time.Millisecond) {
		if got, err := askedOver(testenv.DialAs(t, 1001, socket)); got == "200 you are 1001" {
			break
		} else if time.Now().After(end) {
			t.Fatalf("when one has gone: %q, %v", got, err)
		}
	}
}

// Those who ask for nothing are not waited for.
func TestConnLimitWaitsForNoSilentConnection(t *testing.T) {
	socket := serveLimited(t, 1)
	for range 10 * MostAnswers {
		testenv.DialAs(t, 1001, socket)
	}
	if got, err := askedOver(testenv.DialAs(t, 1002, socket)); got != "200 you are 1002" {
		t.Errorf("%q, %v", got, err)
	}
}
