package shim

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/migrate-hpc/migrate/exactjson"
	"github.com/migrate-hpc/migrate/logkey"
)

// service answers the agent.
type service struct {
	shim   *shim
	server *http.Server
	listen net.Listener
}

func listenSocket(path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	return l, os.Chmod(path, 0o600)
}

// begin answers from now on.
func (s *service) begin() (served <-chan error) {
	s.server = &http.Server{Handler: s.routes()}
	ended := make(chan error, 1)
	go func() { ended <- s.server.Serve(s.listen) }()
	return ended
}

func (s *service) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", s.answer(func(*http.Request) error { return nil }, maxRequest))
	mux.HandleFunc("POST /signal", s.answer(s.shim.signal, maxRequest))
	mux.HandleFunc("POST /park", s.answer(s.shim.park, maxRequest))
	mux.HandleFunc("POST /resume", s.answer(s.shim.resume, maxRequest))
	mux.HandleFunc("POST /drop", s.answer(s.shim.drop, maxRequest))
	mux.HandleFunc("POST /release", s.answer(s.shim.release, maxRequest))
	mux.HandleFunc("POST /pages", s.receivePages)
	mux.HandleFunc("POST /settle", s.answer(s.endPush, maxRequest))
	mux.HandleFunc("GET /wanted", s.streamRequests)
	mux.HandleFunc("POST /lose", s.answer(s.markLost, maxRequest))
	return mux
}

// answer runs one request and replies with the status after it. The body may have most bytes, any
// number for 0.
func (s *service) answer(do func(*http.Request) error, most int64) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if most > 0 {
			r.Body = http.MaxBytesReader(w, r.Body, most)
		}
		err := do(r)
		w.Header().Set("Content-Type", "application/json")
		var reply any = s.shim.status()
		if err != nil {
			w.WriteHeader(http.StatusConflict)
			reply = failure{err.Error()}
		}
		_ = exactjson.NewEncoder(w).Encode(reply)
	}
}

const maxRequest = 1 << 20

// untilDone goes on until the job is over here.
func (s *service) untilDone(served <-chan error) {
	select {
	case <-s.shim.done:
	case err := <-served:
		s.shim.log.Error("lost the socket", logkey.Err, err)
		<-s.shim.done
	}
	// The request that ends the job gets its answer before the process exits.
	ctx, cancel := context.WithTimeout(context.Background(), answerTime)
	defer cancel()
	if s.server.Shutdown(ctx) != nil {
		_ = s.server.Close() // a request that still sends pages is not needed
	}
}

// answerTime is how long the end of a shim waits for requests under way.
const answerTime = 5 * time.Second
