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

const maxHeader = 16 << 10 // bytes of a local request's head

const userBodies = 8 << 20 // bytes of bodies whose requests are not answered

const allBodies = 8 * userBodies

const userLooks = 2 // requests that look at all jobs or moves, or at all of one job

const allLooks = 8 * userLooks

const userExecs = 64 // commands inside of jobs

const allExecs = 16 * userExecs

const lookTime = 10 * time.Second // that a look waits for others of its user

// reserveBody sets aside what the body of a request takes, before a byte of it is read.
func (s *Server) reserveBody(w http.ResponseWriter, r *http.Request, c caller.Caller, most int64) (give func(), err error) {
	if r.ContentLength > most {
		w.Header().Set("Connection", "close") // nobody reads the rest
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

// awaitLook waits for the caller's turn to have much read.
func (s *Server) awaitLook(ctx context.Context, c caller.Caller) (done func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	done, ok := s.looks.Await(ctx, c, 1)
	if !ok {
		return nil, caller.Busy("%d requests of yours are being answered, and this one has waited %v for them", userLooks, lookTime)
	}
	return done, nil
}

// limitLooks is a request whose answer may be large, one of few at a time.
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

// limitJobLooks is the same for a request about a job.
func (s *Server) limitJobLooks(h jobHandler) jobHandler {
	return func(w http.ResponseWriter, r *http.Request, c caller.Caller, rec job.Record) error {
		return s.limitLooks(func(w http.ResponseWriter, r *http.Request, c caller.Caller) error { return h(w, r, c, rec) })(w, r, c)
	}
}
