package server

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/caller"
	"github.com/migrate-hpc/migrate/agent/httpjson"
	"github.com/migrate-hpc/migrate/agent/node/nodetest"
	"github.com/migrate-hpc/migrate/agent/peer"
	"github.com/migrate-hpc/migrate/agent/target"
	"github.com/migrate-hpc/migrate/agent/transfer"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/testenv"
	"github.com/migrate-hpc/migrate/transport"
	"github.com/migrate-hpc/migrate/transport/pki"
)

// aboutAJob is every request about a job.
var aboutAJob = [][2]string{
	{"GET", ""}, {"GET", "/wait"}, {"GET", "/logs?stream=stdout"}, {"POST", "/signal"}, {"POST", "/exec"},
	{"POST", "/move"}, {"POST", "/checkpoint"}, {"DELETE", ""}, {"DELETE", "?force=true"},
}

func TestForbiddenIsEveryRequestAboutAnothersJob(t *testing.T) {
	a := newAgent(t)
	secret := func(r *job.Record) { r.Spec.Name, r.Spec.Args = "secret-name", []string{"secret-command"} }
	ended := func(r *job.Record) { secret(r); r.Exit = &job.Exit{} }
	moved := func(r *job.Record) { secret(r); r.MovedTo = &job.Moved{Node: "secret-node", Addr: "127.0.0.1:1"} }
	for _, edit := range []func(*job.Record){secret, ended, moved} {
		rec := nodetest.Known(t, a.Node, edit)
		for _, q := range aboutAJob {
			for _, ref := range []string{string(rec.ID), "secret-name"} {
				for _, body := range []string{"", `{"node":"there"}`, `{"signal":9}`, "{"} {
					r := httptest.NewRequest(q[0], "/v1/jobs/"+ref+q[1], strings.NewReader(body))
					nodetest.Operator.SetHeaders(r.Header)
					w := answer(a, nodetest.Stranger, r)
					want := http.StatusForbidden
					if ref == "secret-name" {
						want = http.StatusNotFound // as if there were none
					}
					said := strings.ReplaceAll(w.Body.String(), "no job secret-name", "") // the caller's own word
					if w.Code != want || strings.Contains(said, "secret") {
						t.Errorf("%s %s %s: %d %s", q[0], ref, q[1], w.Code, w.Body)
					}
				}
			}
		}
		if known, err := a.Jobs.Get(rec.ID); err != nil || known.Epoch != rec.Epoch {
			t.Errorf("the job was touched: %+v %v", known, err)
		}
	}
}

func TestCallerIsToldByTheKernelOrANodeOnly(t *testing.T) {
	ca := testenv.NewAuthority(t)
	from, to := newAgent(t), newAgent(t)
	from.Identity, to.Identity = ca.Node(t, "from"), ca.Node(t, "to")
	rec := nodetest.Known(t, to.Node, func(r *job.Record) { r.Exit = &job.Exit{} })
	gone := rec
	gone.Exit, gone.MovedTo, gone.Spec.UID = nil, &job.Moved{Node: "to", Addr: to.reachable(t)}, nodetest.Stranger.UID
	if err := from.Jobs.Create(gone); err != nil {
		t.Fatal(err)
	}
	for _, connection := range []string{"", caller.UIDHeader, caller.UIDHeader + ", " + caller.GIDHeader + ", " + caller.GroupsHeader, "close"} {
		r := httptest.NewRequest("GET", "/v1/jobs/"+string(rec.ID), nil)
		nodetest.Operator.SetHeaders(r.Header)
		r.Header.Add(caller.UIDHeader, "0")
		r.Header.Set("Connection", connection)
		if w := answer(from, nodetest.Stranger, r); w.Code != http.StatusForbidden {
			t.Errorf("Connection %q: %d %s", connection, w.Code, w.Body)
		}
	}
}

// FuzzRequests asks for anything, as a user to whom no job here belongs and as the owner
// on another node, who cannot start anything. Every failure is told in the API's form, and
// the nodetest.Stranger learns nothing.
func FuzzRequests(f *testing.F) {
	for _, q := range aboutAJob {
		for _, body := range []string{"", `{"signal":9}`, `{"node":"here"}`, `{"dir":"/x","leave_running":true}`, `{"args":["x"],"env":null}`} {
			f.Add(q[0], "jobs/JOB"+q[1], []byte(body))
		}
	}
	for _, q := range [][3]string{
		{"GET", "node", ""}, {"GET", "jobs", ""}, {"POST", "jobs", `{"spec":{"args":["true"]}}`}, {"POST", "restore", `{"dir":"/"}`},
		{"GET", "moves?all=true", ""}, {"GET", "moves/x", ""}, {"POST", "moves/x/resolve?take=true", ""},
		{"POST", "jobs", `[[[[`}, {"GET", "jobs/JOB/../../moves", ""}, {"GET", "jobs/%2e%2e/JOB/logs?stream=%00&offset=-1", ""},
	} {
		f.Add(q[0], q[1], []byte(q[2]))
	}
	a := newAgent(f)
	rec := nodetest.Known(f, a.Node, func(r *job.Record) { r.Spec.Name, r.Exit = "secret", &job.Exit{} })
	nodetest.Known(f, a.Node, func(r *job.Record) { r.Spec.Name = "secret" })
	elsewhere := nodetest.Owner
	elsewhere.Peer = "there"
	f.Fuzz(func(t *testing.T, method, path string, body []byte) {
		u, err := url.ParseRequestURI("/v1/" + strings.ReplaceAll(path, "JOB", string(rec.ID)))
		if err != nil {
			return
		}
		for _, c := range []caller.Caller{nodetest.Stranger, elsewhere} {
			r, err := http.NewRequest(method, "http://agent/", bytes.NewReader(body))
			if err != nil {
				return
			}
			if r.URL = u; reachesOut(c, r) {
				continue
			}
			w := answer(a, c, r)
			var e api.Error
			if w.Code == http.StatusInternalServerError && (json.Unmarshal(w.Body.Bytes(), &e) != nil || e.Message == "") {
				t.Errorf("%s %s %q: %d %s", method, u, body, w.Code, w.Body)
			}
			if c.UID == nodetest.Stranger.UID && strings.Contains(w.Body.String(), "secret") && !strings.Contains(u.Path, "secret") {
				t.Errorf("%s %s %q: a nodetest.Stranger learns %s", method, u, body, w.Body)
			}
		}
	})
}

// reachesOut tells requests that do what no fuzz test should: start a job, dial, read the
// node's files, remove the job that the others are about.
func reachesOut(c caller.Caller, r *http.Request) bool {
	starts := c.Peer == "" && (r.URL.Path == "/v1/jobs" || r.URL.Path == "/v1/restore")
	owners := c.UID == nodetest.Owner.UID && (strings.HasSuffix(r.URL.Path, "/move") || r.Method == http.MethodDelete)
	return r.Method == http.MethodPost && starts || owners
}

// FuzzRunRequests holds that a job which is to be run passes its check as a whole, and
// that it means the same to the shim and to other nodes, which get it as JSON.
func FuzzRunRequests(f *testing.F) {
	f.Add([]byte(`{"spec":{"args":["sh","-c","true"],"env":["A=b"],"work_dir":"/tmp","binds":[{"source":"/a","target":"/b"}]},"foreground":true}`))
	f.Add([]byte(`{"spec":{"args":[""]}}`))
	f.Add([]byte(`{"spec":{"args":["\ud800"]}} x`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var req api.RunRequest
		if httpjson.Decode(httptest.NewRequest("POST", "/v1/jobs", bytes.NewReader(body)), &req) != nil || req.Spec.Validate() != nil {
			return
		}
		data, err := json.Marshal(req.Spec)
		if err != nil {
			t.Fatal(err)
		}
		var again job.Spec
		if err := json.Unmarshal(data, &again); err != nil || again.Validate() != nil {
			t.Errorf("%s: %v, %v", data, err, again.Validate())
		}
		if twice, err := json.Marshal(again); err != nil || !bytes.Equal(twice, data) {
			t.Errorf("%s came back as %s", data, twice)
		}
	})
}

// FuzzOffers holds that an offer which is looked at leads to no file but the move's own.
func FuzzOffers(f *testing.F) {
	good, err := json.Marshal(peer.Offer{Move: handoff.NewMoveID(), Epoch: 1, Port: 7707, Record: job.Record{ID: job.NewID(), Spec: job.Spec{Args: []string{"x"}, UID: 1}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(bytes.Replace(good, []byte(`"move":"`), []byte(`"move":"../`), 1))
	f.Add([]byte(`{"move":"..","record":{"id":"/"},"port":-1}`))
	a := newAgent(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		var o peer.Offer
		if (transport.Message{Type: peer.SayOffer, Body: body}).Decode(&o) != nil || transfer.CheckOffer(o) != nil {
			return
		}
		l := target.NewJob(a.Targets, string(o.Move), o.Record.ID)
		for _, path := range []string{l.Dir(), l.Memory(), a.Jobs.Dir(o.Record.ID), a.Paths.JobRun(o.Record.ID)} {
			if within, err := filepath.Rel(filepath.Dir(filepath.Dir(path)), path); err != nil || strings.Contains(within, "..") || strings.Count(within, "/") != 1 {
				t.Errorf("%q and %q lead to %s", o.Move, o.Record.ID, path)
			}
		}
	})
}

// FuzzWords says anything to an agent that has no move with the node that says it.
func FuzzWords(f *testing.F) {
	ref := fmt.Sprintf(`{"move":%q}`, handoff.NewMoveID())
	for _, kind := range []string{peer.SayPrepare, peer.SayCommit, peer.SayAbort, peer.SayOutcome, peer.SayWhy, peer.SayYield, peer.SayPull, "", "x"} {
		f.Add(kind, []byte(ref))
	}
	f.Add(peer.SayCommit, []byte(`{"move":"../../x"}`))
	f.Add(peer.SayPrepare, []byte(`{"move":1}`))
	a := newAgent(f)
	a.Identity = testenv.NewAuthority(f).Node(f, "here")
	s, err := transport.Dial(testenv.Bounded(f), a.reachable(f), "here", a.Identity, 0)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { s.Close() })
	before := filesUnder(f, a)
	f.Fuzz(func(t *testing.T, kind string, body []byte) {
		m := transport.Message{Type: kind, Body: body}
		var err error
		if kind == peer.SayPull {
			_, err = a.Arrivals.Relay(context.Background(), s, m)
		} else {
			_, err = a.Arrivals.Answer(context.Background(), s, m)
		}
		if err == nil {
			t.Errorf("%q %s is answered", kind, body)
		}
		if after := filesUnder(t, a); !slices.Equal(after, before) {
			t.Errorf("%q %s leaves %v", kind, body, after)
		}
	})
}

func filesUnder(t testing.TB, a *Server) (all []string) {
	t.Helper()
	for _, dir := range []string{a.Paths.State, a.Paths.Run} {
		if err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
			all = append(all, path)
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// served has an agent's API answer a nodetest.Stranger over pipes until the test ends.
func served(t *testing.T, h http.Handler) *testenv.Pipes {
	ctx, cancel := context.WithCancel(t.Context())
	l, ended := testenv.NewPipes(), make(chan error, 1)
	who := func(ctx context.Context, _ net.Conn) context.Context {
		return context.WithValue(ctx, caller.ContextKey{}, nodetest.Stranger)
	}
	go func() { ended <- Serve(ctx, l, h, who) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return l
}

func TestCallersThatAreSlowOrSilentAreHungUpOn(t *testing.T) {
	for name, say := range map[string]string{
		"nothing":                    "",
		"half a header":              "GET /v1/jobs HTTP/1.1\r\nHost:",
		"no body":                    "POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n",
		"half a body":                "POST /v1/restore HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{\"di",
		"half a chunk":               "POST /v1/restore HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n{\"di",
		"no body and no such job":    "POST /v1/jobs/none/signal HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n",
		"no body where none is read": "GET /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n",
		"idle after an answer":       "GET /v1/jobs HTTP/1.1\r\nHost: x\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newAgent(t)
				conn := served(t, a.LocalHandler()).Dial()
				defer conn.Close()
				began := time.Now()
				if _, err := io.WriteString(conn, say); err != nil {
					t.Fatal(err)
				}
				if err := conn.SetReadDeadline(began.Add(time.Hour)); err != nil {
					t.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, conn); err != nil {
					t.Errorf("after %s: %v", time.Since(began), err)
				}
			})
		})
	}
}

func TestRequestThatHasArrivedMayTakeItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			select {
			case <-time.After(time.Hour):
			case <-r.Context().Done():
				err = errors.Join(err, context.Cause(r.Context()))
			}
			fmt.Fprintf(w, "%s %v", body, err)
		})
		conn := served(t, slow).Dial()
		defer conn.Close()
		in := bufio.NewReader(conn)
		for range 2 { // the second on the same connection
			if _, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody"); err != nil {
				t.Fatal(err)
			}
			resp, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatal(err)
			}
			if said, err := io.ReadAll(resp.Body); err != nil || string(said) != "body <nil>" {
				t.Errorf("%q, %v", said, err)
			}
		}
	})
}

func TestSessionOfASilentNodeIsHungUpOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, ca, wire := newAgent(t), testenv.NewAuthority(t), testenv.NewPipes()
		a.Identity = ca.Node(t, "here")
		l := transport.NewListener(wire, a.Identity, a.Log)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- a.Arrivals.AcceptMoves(ctx, l) }()
		defer func() {
			cancel()
			if err := errors.Join(<-ended, l.Close()); err != nil {
				t.Error(err)
			}
		}()
		s := sessionOver(t, wire, "here", ca.Node(t, "there"))
		defer s.Close()
		if err := peer.Ask(t.Context(), s, peer.SayOutcome, peer.MoveRef{Move: handoff.NewMoveID()}, peer.SayState, nil); !peer.IsAnswer(err) {
			t.Fatal(err)
		}
		s.SetRecvTimeout(time.Hour)
		if _, err := s.Recv(); !errors.Is(err, io.EOF) {
			t.Errorf("got %v, want the session closed", err)
		}
	})
}

// sessionOver dials over pipes.
func sessionOver(t *testing.T, wire *testenv.Pipes, to string, id *pki.Identity) *transport.Session {
	t.Helper()
	s, err := transport.Dial(t.Context(), "pipes", to, id, 0,
		transport.WithDialer(func(context.Context, string) (net.Conn, error) { return wire.Dial(), nil }))
	if err != nil {
		t.Fatal(err)
	}
	return s
}
