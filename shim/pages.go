package shim

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/migrate-hpc/migrate/restore/uffd"
	"github.com/migrate-hpc/migrate/stream"
)

// Pages come to the shim as a body of frames, each behind its length, a u32 in the
// node's order. A body that ends anywhere else than between two frames was cut.

// heartbeatEvery is how often the client of /wanted gets a line.
const heartbeatEvery = time.Second

// requestLine is one line of the answer to GET /wanted. An empty one is a heartbeat.
type requestLine struct {
	Requests []uffd.PageRequest `json:"wants,omitempty"`
	Complete bool               `json:"complete,omitempty"`
	Error    string             `json:"error,omitempty"`
}

// awaitMemory waits until the job is being restored.
func (s *service) awaitMemory(ctx context.Context) (*uffd.Server, error) {
	_, opened := s.shim.memory.now()
	if s.shim.currentState() == Waiting {
		select {
		case <-opened:
		case <-s.shim.done:
		case <-ctx.Done():
		}
	}
	server, _ := s.shim.memory.now()
	if server == nil {
		return nil, fmt.Errorf("no memory is expected: the job is %s", s.shim.currentState())
	}
	return server, nil
}

// receivePages receives the pages of one lane, in order. It answers when all are stored. Pages of
// the freeze (final) are in the job by then.
func (s *service) receivePages(w http.ResponseWriter, r *http.Request) {
	final := r.URL.Query().Get("final") != ""
	s.answer(func(r *http.Request) error {
		server, err := s.awaitMemory(r.Context())
		if err != nil {
			return err
		}
		take := server.Put
		if final {
			take = server.Deliver
		}
		return eachFrame(r.Body, func(frame []byte) error {
			var runs []stream.Run
			if err := stream.EachRun(frame, func(r stream.Run) error {
				runs = append(runs, r)
				return nil
			}); err != nil {
				return err
			}
			return take(runs)
		})
	}, 0)(w, r)
}

func eachFrame(body io.Reader, do func([]byte) error) error {
	in := bufio.NewReaderSize(body, 64<<10)
	buf := make([]byte, stream.MaxBatch)
	for {
		var head [4]byte
		if _, err := io.ReadFull(in, head[:]); err == io.EOF {
			return nil
		} else if err != nil {
			return fmt.Errorf("read pages: %w", err)
		}
		size := binary.NativeEndian.Uint32(head[:])
		if size == 0 || size > stream.MaxBatch {
			return fmt.Errorf("a frame of %d bytes", size)
		}
		if _, err := io.ReadFull(in, buf[:size]); err != nil {
			return fmt.Errorf("read pages: %w", err)
		}
		if err := do(buf[:size]); err != nil {
			return err
		}
	}
}

// endPush handles the end of what was sent before the commit. With pull the rest comes later.
func (s *service) endPush(r *http.Request) error {
	server, err := s.awaitMemory(r.Context())
	if err != nil {
		return err
	}
	return server.EndPush(r.URL.Query().Get("pull") != "")
}

// markLost handles the loss of the missing pages. If the job runs, awaitMemoryFilled ends it.
func (s *service) markLost(r *http.Request) error {
	var req markLostRequest
	if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
		return err
	}
	server, err := s.awaitMemory(r.Context())
	if err != nil {
		return err
	}
	server.MarkLost(errors.New(req.Why))
	return nil
}

// streamRequests streams requests for pages until the job lacks none.
func (s *service) streamRequests(w http.ResponseWriter, r *http.Request) {
	server, err := s.awaitMemory(r.Context())
	if err != nil {
		s.answer(func(*http.Request) error { return err }, 0)(w, r)
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	w.Header().Set("Content-Type", "application/x-ndjson")
	out := &lineWriter{to: json.NewEncoder(w), flush: http.NewResponseController(w).Flush}
	var beats sync.WaitGroup
	beats.Go(func() { out.heartbeat(ctx, cancel) })
	err = server.Requests(ctx, func(wants []uffd.PageRequest) error { return out.line(requestLine{Requests: wants}) })
	cancel()
	beats.Wait()
	last := requestLine{Complete: err == nil}
	if err != nil {
		last.Error = err.Error()
	}
	_ = out.line(last) // the client may have ended
}

// lineWriter writes lines at once.
type lineWriter struct {
	mu    sync.Mutex
	to    *json.Encoder
	flush func() error
}

func (l *lineWriter) line(v requestLine) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return errors.Join(l.to.Encode(v), l.flush())
}

func (l *lineWriter) heartbeat(ctx context.Context, lost func()) {
	tick := time.NewTicker(heartbeatEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if l.line(requestLine{}) != nil {
				lost()
				return
			}
		}
	}
}
