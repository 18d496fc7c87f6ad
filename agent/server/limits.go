package server

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/caller"
	"github.com/migrate-hpc/migrate/humanize"
	"github.com/migrate-hpc/migrate/job"
)

const (
	// maxHeader bounds the head of a local request, in bytes.
	maxHeader = 16 << 10

	// userBodies bounds, for one user, the bodies of requests that are not answered yet, in bytes.
	userBodies = 8 << 20
	allBodies  = 8 * userBodies

	// userLooks bounds, for one user, the requests that read all jobs or moves, or all of one job.
	userLooks = 2
	allLooks  = 8 * userLooks
	// lookTime is how long such a request waits for others of its user.
	lookTime = 10 * time.Second

	// userExecs bounds, for one user, the commands inside of jobs.
	userExecs = 64
	allExecs  = 16 * userExecs
)

// reserveBody reserves the memory for the body of a request before the agent reads a byte of it.
func (s *Server) reserveBody(w http.ResponseWriter, r *http.Request, c caller.Caller, most int64) (give func(), err error) {
	if r.ContentLength > most {
		w.Header().Set("Connection", "close") // the rest stays unread
		return nil, &api.Error{Code: api.CodeUsage, Message: fmt.Sprintf("the request has %s, above the %s that it may have", humanize.Size(r.ContentLength), humanize.Size(most)),
			Where: "nothing was done", Hint: "put long lists into a file, or start it with a short environment: `env -i migrate run …`"}
	}
	n := r.ContentLength
	if n < 0 {
		n = most
	}
	give, ok := s.bodies.Take(c, n)
	if !ok {
		w.Header().Set("Connection", "close")
		return nil, caller.Busy("requests that are not answered yet hold as much of the agent's memory as one user, or all, may have (%s, %s)", humanize.Size(userBodies), humanize.Size(allBodies))
	}
	r.Body = http.MaxBytesReader(w, r.Body, most)
	return give, nil
}

// awaitLook waits until the caller may have one more look; done ends it.
func (s *Server) awaitLook(ctx context.Context, c caller.Caller) (done func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	done, ok := s.looks.Await(ctx, c, 1)
	if !ok {
		return nil, caller.Busy("%d requests of yours are being answered, and this one has waited %v for them", userLooks, lookTime)
	}
	return done, nil
}

// limitLooks bounds how many requests with large answers run at a time.
func (s *Server) limitLooks(h handler) handler {
	return func(w http.ResponseWriter, r *http.Request, c caller.Caller) error {
		done, err := s.awaitLook(r.Context(), c)
		if err != nil {
			return err
		}
		defer done()
		return h(w, r, c)
	}
}

// limitJobLooks is limitLooks for a request about a job.
func (s *Server) limitJobLooks(h jobHandler) jobHandler {
	return func(w http.ResponseWriter, r *http.Request, c caller.Caller, rec job.Record) error {
		return s.limitLooks(func(w http.ResponseWriter, r *http.Request, c caller.Caller) error { return h(w, r, c, rec) })(w, r, c)
	}
}
