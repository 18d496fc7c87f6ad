package server

import (
	"errors"
	"net/http"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/caller"
	"github.com/migrate-hpc/migrate/agent/httpjson"
	"github.com/migrate-hpc/migrate/agent/peer"
	"github.com/migrate-hpc/migrate/agent/transfer"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/transport"
)

// LocalHandler answers users on the local socket.
func (s *Server) LocalHandler() http.Handler {
	return s.routes(func(r *http.Request) (caller.Caller, error) {
		c, ok := r.Context().Value(caller.ContextKey{}).(caller.Caller)
		if !ok {
			return c, errors.New("the kernel does not say who you are")
		}
		return c, nil
	})
}

func (s *Server) routes(who func(*http.Request) (caller.Caller, error)) http.Handler {
	mux := http.NewServeMux()
	for pattern, h := range map[string]handler{
		"GET /v1/node":                   s.jobVerbs.handleNode,
		"GET /v1/jobs":                   s.limitLooks(s.jobVerbs.handleList),
		"POST /v1/jobs":                  s.jobVerbs.handleRun,
		"GET /v1/jobs/{job}":             s.onJob(s.limitJobLooks(s.jobVerbs.handleInspect), s.jobVerbs.inspectDamaged),
		"GET /v1/jobs/{job}/wait":        s.onJob(s.jobVerbs.handleWait),
		"GET /v1/jobs/{job}/logs":        s.onJob(s.jobVerbs.handleLogs),
		"POST /v1/jobs/{job}/signal":     s.onJob(s.jobVerbs.handleSignal, s.jobVerbs.signalDamaged),
		"POST /v1/jobs/{job}/exec":       s.onJob(s.jobVerbs.whenRunning(s.jobVerbs.handleExec, false)),
		"POST /v1/jobs/{job}/move":       s.onJob(s.moveVerbs.handleMove),
		"POST /v1/jobs/{job}/checkpoint": s.onJob(s.moveVerbs.handleCheckpoint),
		"DELETE /v1/jobs/{job}":          s.onJob(s.jobVerbs.handleRemove, s.jobVerbs.removeDamaged),
		"POST /v1/restore":               s.moveVerbs.handleRestore,
		"GET /v1/moves":                  s.limitLooks(s.moveVerbs.handleMoves),
		"GET /v1/moves/{move}":           s.limitLooks(s.moveVerbs.handleMoveRecord),
		"GET /v1/moves/{move}/resolve":   s.moveVerbs.handleResolve,
		"POST /v1/moves/{move}/resolve":  s.moveVerbs.handleResolve,
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if err := s.serve(w, r, who, pattern, h); err != nil {
				httpjson.ReplyError(w, err)
			}
		})
	}
	return mux
}

// serve answers a request if its caller is known and has room for its body.
func (s *Server) serve(w http.ResponseWriter, r *http.Request, who func(*http.Request) (caller.Caller, error), pattern string, h handler) error {
	c, err := who(r)
	if err != nil {
		return &api.Error{Code: api.CodeForbidden, Message: err.Error()}
	}
	most := int64(httpjson.MaxBody)
	if carriesCommand[pattern] {
		most = api.MaxCommandBody
	}
	give, err := s.reserveBody(w, r, c, most)
	if err != nil {
		return err
	}
	defer give()
	return h(w, r, c)
}

// carriesCommand are the routes whose requests hold arguments and environment.
var carriesCommand = map[string]bool{"POST /v1/jobs": true, "POST /v1/jobs/{job}/exec": true}

// onJob finds the job that a request names. The node that the job moved to answers for it. A job
// whose record cannot be read may have a handler of its own.
func (s *Server) onJob(h jobHandler, broken ...damagedHandler) handler {
	return func(w http.ResponseWriter, r *http.Request, c caller.Caller) error {
		rec, err := s.find(r.Context(), r.PathValue("job"), c)
		var unread *job.RecordError
		switch {
		case errors.As(err, &unread) && len(broken) > 0:
			return broken[0](w, r, c, unread)
		case errors.As(err, &unread):
			return s.jobVerbs.damagedError(r.Context(), unread)
		}
		if err != nil {
			return err
		}
		if rec.MovedTo != nil {
			return s.forward(w, r, c, rec)
		}
		return h(w, r, c, rec)
	}
}

// PeerHandler answers peers: for their users, and questions of their own.
func (s *Server) PeerHandler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", s.routes(caller.FromPeer))
	for pattern, answer := range map[string]peer.QuestionHandler{
		"GET " + peer.PeerPath + "/{job}":             s.Copies.AnswerInquiry,
		"POST " + peer.PeerPath + "/{job}/grant":      s.Copies.AnswerGrant,
		"POST " + peer.PeerPath + "/{job}/superseded": s.Copies.AnswerSuperseded,
		"POST " + peer.PeerPath:                       s.Copies.AnswerNews,
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			r.Body = http.MaxBytesReader(w, r.Body, httpjson.MaxBody)
			peer, err := transport.PeerOf(r)
			if err != nil {
				httpjson.ReplyError(w, &api.Error{Code: api.CodeForbidden, Message: err.Error()})
				return
			}
			body, err := answer(r, peer)
			if err != nil {
				httpjson.ReplyError(w, err)
				return
			}
			_ = httpjson.Reply(w, body)
		})
	}
	return mux
}

// New returns the server of a node with its operations.
func New(t *transfer.Transfers) *Server {
	a := &Server{Node: t.Node, Transfers: t, Peers: t.Peers, Launcher: t.Launcher, Sources: t.Sources, Targets: t.Targets, Copies: t.Copies,
		Arrivals: t.Arrivals, Recovery: t.Recovery, Resolver: t.Resolver, History: t.History}
	a.jobVerbs, a.moveVerbs = &jobServer{a}, &moveServer{a}
	a.bodies, a.looks, a.execs = caller.NewShare(userBodies, allBodies), caller.NewShare(userLooks, allLooks), caller.NewShare(userExecs, allExecs)
	return a
}
