package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/job"
)

// fakeAgent answers for one job. What happens to the job is what a test calls.
type fakeAgent struct {
	t      *testing.T
	socket string
	server *httptest.Server

	mu      sync.Mutex
	change  chan struct{} // closed and replaced when anything changes
	job     api.Job
	output  map[string][]byte
	signals []int
	waiting int    // requests to wait so far
	request []byte // body of the last POST
	events  []api.Event
	record  api.MoveRecord // the only move that is known
	decided []string       // of each decision about a move, whether it takes
	cut     int            // a reply with output breaks off after so many bytes; 0 = never
	refuse  int            // so many requests are answered with 502
}

func newFakeAgent(t *testing.T) *fakeAgent {
	t.Helper()
	a := &fakeAgent{t: t, socket: filepath.Join(t.TempDir(), "agent.sock"), change: make(chan struct{}), output: map[string][]byte{}}
	a.job = api.Job{Record: job.Record{ID: "jabcdefghij", Spec: job.Spec{Name: "sim"}}, Node: "node-a", State: api.JobRunning}
	a.start()
	t.Cleanup(func() { a.stop() })
	return a
}

func (a *fakeAgent) start() {
	l, err := net.Listen("unix", a.socket)
	if err != nil {
		a.t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/jobs", a.run)
	mux.HandleFunc("GET /v1/jobs", func(w http.ResponseWriter, _ *http.Request) { a.reply(w, []api.Job{a.now()}) })
	mux.HandleFunc("GET /v1/jobs/{job}", func(w http.ResponseWriter, _ *http.Request) { a.reply(w, a.now()) })
	mux.HandleFunc("GET /v1/jobs/{job}/wait", a.wait)
	mux.HandleFunc("GET /v1/jobs/{job}/logs", a.logs)
	mux.HandleFunc("POST /v1/jobs/{job}/signal", a.signal)
	mux.HandleFunc("POST /v1/jobs/{job}/move", a.tellEvents)
	mux.HandleFunc("POST /v1/jobs/{job}/checkpoint", a.tellEvents)
	mux.HandleFunc("POST /v1/restore", a.tellEvents)
	mux.HandleFunc("GET /v1/moves/{move}", func(w http.ResponseWriter, r *http.Request) {
		if r.PathValue("move") != a.record.Move {
			w.WriteHeader(api.CodeNotFound.Status())
			a.reply(w, api.Error{Code: api.CodeNotFound, Message: "no move " + r.PathValue("move")})
			return
		}
		a.reply(w, a.record)
	})
	mux.HandleFunc("/v1/moves/{move}/resolve", a.decides)
	mux.HandleFunc("DELETE /v1/jobs/{job}", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(api.CodeNotFound.Status())
		a.reply(w, api.Error{Code: api.CodeNotFound, Message: "no job " + r.PathValue("job")})
	})
	a.server = &httptest.Server{Listener: l, Config: &http.Server{Handler: a.faulty(mux)}}
	a.server.Start()
}

// faulty answers some requests as a proxy does whose peer is gone.
func (a *fakeAgent) faulty(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		refused := a.refuse > 0
		a.refuse--
		a.mu.Unlock()
		if refused {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (a *fakeAgent) stop() {
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		a.server.Close() // waits for connections that are in use; one may come meanwhile
	}()
	for {
		a.server.CloseClientConnections()
		select {
		case <-closed:
			return
		case <-time.After(time.Millisecond):
		}
	}
}

// set changes the job and wakes the requests that wait for a change.
func (a *fakeAgent) set(change func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	change()
	close(a.change)
	a.change = make(chan struct{})
}

func (a *fakeAgent) write(stream, text string) {
	a.set(func() { a.output[stream] = append(a.output[stream], text...) })
}

func (a *fakeAgent) move(node string) { a.set(func() { a.job.Node = node }) }

func (a *fakeAgent) exit(code, signal int) {
	a.set(func() { a.job.State, a.job.Exit = api.JobExited, &job.Exit{Code: code, Signal: signal} })
}

func (a *fakeAgent) now() api.Job {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.job
}

func (a *fakeAgent) reply(w http.ResponseWriter, v any) {
	if err := json.NewEncoder(w).Encode(v); err != nil {
		a.t.Error(err)
	}
}

func (a *fakeAgent) run(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	a.set(func() { a.request = body })
	a.reply(w, a.now())
}

func (a *fakeAgent) wait(w http.ResponseWriter, r *http.Request) {
	a.set(func() { a.waiting++ })
	a.mu.Lock()
	was, change := a.job, a.change
	a.mu.Unlock()
	for !isOver(was) {
		select {
		case <-change:
		case <-r.Context().Done():
			return
		}
		a.mu.Lock()
		moved := a.job.Node != was.Node
		was, change = a.job, a.change
		a.mu.Unlock()
		if moved {
			break
		}
	}
	a.reply(w, was)
}

// logs ends when the job is over or moves, as a real agent's do.
func (a *fakeAgent) logs(w http.ResponseWriter, r *http.Request) {
	offset, err := strconv.Atoi(r.FormValue("offset"))
	if err != nil {
		a.t.Error(err)
	}
	node, sent := a.now().Node, 0
	_ = http.NewResponseController(w).Flush()
	for {
		a.mu.Lock()
		out, change, cut := a.output[r.FormValue("stream")], a.change, a.cut
		over := a.job.State != api.JobRunning || a.job.Node != node || r.FormValue("follow") != "true"
		a.mu.Unlock()
		if offset > len(out) {
			a.t.Errorf("asked for offset %d of %d", offset, len(out))
			return
		}
		piece := out[offset:]
		if cut > 0 && len(piece) > cut-sent {
			piece = piece[:cut-sent]
		}
		n, err := w.Write(piece)
		_ = http.NewResponseController(w).Flush()
		if offset, sent = offset+n, sent+n; cut > 0 && sent >= cut {
			panic(http.ErrAbortHandler)
		}
		if over || err != nil {
			return
		}
		select {
		case <-change:
		case <-r.Context().Done():
			return
		}
	}
}

func (a *fakeAgent) signal(w http.ResponseWriter, r *http.Request) {
	var req api.SignalRequest
	if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
		a.t.Error(err)
	}
	a.set(func() { a.signals = append(a.signals, req.Signal) })
	w.WriteHeader(http.StatusNoContent)
}

func (a *fakeAgent) tellEvents(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	a.set(func() { a.request = body })
	for _, e := range a.events {
		a.reply(w, e)
		_ = http.NewResponseController(w).Flush()
	}
	if len(a.events) == 0 { // until the caller is gone
		<-r.Context().Done()
	}
}

// until waits for a condition that the agent's changes bring about.
func (a *fakeAgent) until(what string, met func() bool) {
	a.t.Helper()
	deadline := time.After(time.Minute)
	for {
		a.mu.Lock()
		done, change := met(), a.change
		a.mu.Unlock()
		if done {
			return
		}
		select {
		case <-change:
		case <-deadline:
			a.t.Fatalf("waited in vain for %s", what)
		}
	}
}

// locked is a buffer that a test may look into while it is written.
type locked struct {
	mu      sync.Mutex
	b       bytes.Buffer
	written chan struct{}
}

func newLocked() *locked { return &locked{written: make(chan struct{}, 1)} }

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case l.written <- struct{}{}:
	default:
	}
	return l.b.Write(p)
}

func (l *locked) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *locked) until(t *testing.T, text string) {
	t.Helper()
	deadline := time.After(time.Minute)
	for !strings.Contains(l.String(), text) {
		select {
		case <-l.written:
		case <-deadline:
			t.Fatalf("waited in vain for %q, got %q", text, l.String())
		}
	}
}

// newShell is one that talks to a and whose output a test can read.
func newCLI(a *fakeAgent) (c *cli, out, errs *locked) {
	out, errs = newLocked(), newLocked()
	c = &cli{
		in: strings.NewReader(""), out: out, err: errs, environ: []string{"HOME=/home/ada", "A=1"},
		getwd: func() (string, error) { return "/home/ada/run", nil },
		now:   func() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) },
	}
	if a != nil {
		c.environ = append(c.environ, "MIGRATE_SOCKET="+a.socket)
	}
	return c, out, errs
}

var errTest = errors.New("as the test wants")
