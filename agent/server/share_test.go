package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/caller"
	"github.com/migrate-hpc/migrate/agent/httpjson"
	"github.com/migrate-hpc/migrate/agent/node"
	"github.com/migrate-hpc/migrate/agent/node/nodetest"
	"github.com/migrate-hpc/migrate/agent/transfer"
	"github.com/migrate-hpc/migrate/testenv"
)

func TestLooksOfAUserWaitForTheirOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := New(transfer.New(&node.Node{Life: t.Context()}))
		var gives []func()
		for range userLooks {
			give, err := a.awaitLook(t.Context(), nodetest.Owner)
			if err != nil {
				t.Fatal(err)
			}
			gives = append(gives, give)
		}
		began := time.Now()
		var told *api.Error
		if _, err := a.awaitLook(t.Context(), nodetest.Owner); !errors.As(err, &told) || told.Code != api.CodeBusy || time.Since(began) != lookTime {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		if give, err := a.awaitLook(t.Context(), nodetest.Stranger); err != nil {
			t.Errorf("another user: %v", err)
		} else {
			give()
		}
		time.AfterFunc(time.Second, gives[0])
		if give, err := a.awaitLook(t.Context(), nodetest.Owner); err != nil {
			t.Errorf("when one has ended: %v", err)
		} else {
			give()
		}
		gives[1]()
	})
}

// answering serves an agent's local socket.
func answering(t *testing.T, a *Server) (socket string) {
	t.Helper()
	socket, l := testenv.PublicSocket(t)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- Serve(ctx, caller.NewConnLimit(l, caller.MostConnections), a.LocalHandler(), caller.FromSocket)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return socket
}

// heard is the status line that a connection gets to see.
func heard(conn net.Conn) string {
	_ = conn.SetReadDeadline(time.Now().Add(testenv.Patience))
	text := make([]byte, 4096)
	n, err := conn.Read(text)
	if err != nil {
		return err.Error()
	}
	return string(text[:n])
}

// What is said to come is set aside before it comes, and what is too much is not read.
func TestBodiesOfOneUserAreBoundedAndOthersAreServed(t *testing.T) {
	const alice, bob, many = 1001, 1002, 200
	for name, head := range map[string]string{
		"of a command": fmt.Sprintf("POST /v1/jobs HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n{", api.MaxCommandBody),
		"chunked":      "POST /v1/jobs HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			a := newAgent(t)
			socket := answering(t, a)
			const most = userBodies / api.MaxCommandBody
			var refused, open int
			for range many {
				conn := testenv.DialAs(t, alice, socket)
				if _, err := io.WriteString(conn, head); err != nil {
					t.Fatal(err)
				}
				if open < most {
					open++ // it is waited for
					awaitHeld(t, a, alice, int64(open)*api.MaxCommandBody)
					continue
				}
				if got := heard(conn); !strings.HasPrefix(got, "HTTP/1.1 429 ") || !strings.Contains(got, `"busy"`) {
					t.Fatalf("one too many: %s", got)
				}
				refused++
			}
			if refused != many-most {
				t.Errorf("%d are refused", refused)
			}
			for _, uid := range []int{bob, 0, alice} {
				client := http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return testenv.DialAs(t, uid, socket), nil }}, Timeout: testenv.Patience}
				if r, err := client.Get("http://agent/v1/jobs"); err != nil || r.StatusCode != 200 {
					t.Errorf("user %d is not served: %v, %v", uid, r, err)
				}
			}
		})
	}
}

// awaitHeld waits until the bodies of a user hold so many bytes.
func awaitHeld(t *testing.T, a *Server, uid uint32, want int64) {
	t.Helper()
	user := caller.Caller{UID: uid}
	testenv.Eventually(t, func() bool {
		free := userBodies - want
		give, atMost := a.bodies.Take(user, free)
		if atMost {
			give()
		}
		give, below := a.bodies.Take(user, free+1)
		if below {
			give()
		}
		return atMost && !below
	})
}

func TestRequestsThatAreTooLargeAreRefusedUnread(t *testing.T) {
	a := newAgent(t)
	socket := answering(t, a)
	for _, c := range []struct {
		name, head, want string
	}{
		{"a command", fmt.Sprintf("POST /v1/jobs HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n", api.MaxCommandBody+1), "400 "},
		{"a signal", fmt.Sprintf("POST /v1/jobs/x/signal HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n", httpjson.MaxBody+1), "400 "},
		{"a question with a body", fmt.Sprintf("GET /v1/jobs HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n", 8<<20), "400 "},
		{"a head", "GET /v1/jobs HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", 2*maxHeader) + "\r\n\r\n", "431 "},
	} {
		conn := testenv.DialAs(t, 1001, socket)
		if _, err := io.WriteString(conn, c.head); err != nil {
			t.Fatal(err)
		}
		if got := heard(conn); !strings.HasPrefix(got, "HTTP/1.1 "+c.want) {
			t.Errorf("%s: %s", c.name, got)
		}
	}
}
