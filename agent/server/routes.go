package server

import (
	"errors"
	"net/http"

	"github.com/migrate-hpc/migrate/agent/peer"
	"github.com/migrate-hpc/migrate/agent/transfer"
	"github.com/migrate-hpc/migrate/transport"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/caller"
	"github.com/migrate-hpc/migrate/agent/httpjson"
	"github.com/migrate-hpc/migrate/job"
)

func (a *Server) LocalHandler() http.Handler {
	return a.routes(func(r *http.Request) (caller.Caller, error) {
		c, ok := r.Context().Value(caller.CallerKey{}).(caller.Caller)
		if !ok {
			return c, errors.New("the kernel does not say who you are")
		}
		return c, nil
	})
}

func (a *Server) routes(who func(*http.Request) (caller.Caller, error)) http.Handler {
	mux := http.NewServeMux()
	for pattern, h := range map[string]handler{
		"GET /v1/node":                   a.jobVerbs.handleNode,
		"GET /v1/jobs":                   a.looking(a.jobVerbs.handleList),
		"POST /v1/jobs":                  a.jobVerbs.handleRun,
		"GET /v1/jobs/{job}":             a.onJob(a.lookingAt(a.jobVerbs.handleInspect), a.jobVerbs.inspectBroken),
		"GET /v1/jobs/{job}/wait":        a.onJob(a.jobVerbs.handleWait),
		"GET /v1/jobs/{job}/logs":        a.onJob(a.jobVerbs.handleLogs),
		"POST /v1/jobs/{job}/signal":     a.onJob(a.jobVerbs.handleSignal, a.jobVerbs.signalBroken),
		"POST /v1/jobs/{job}/exec":       a.onJob(a.jobVerbs.whenRunning(a.jobVerbs.handleExec, false)),
		"POST /v1/jobs/{job}/move":       a.onJob(a.moveVerbs.handleMove),
		"POST /v1/jobs/{job}/checkpoint": a.onJob(a.moveVerbs.handleCheckpoint),
		"DELETE /v1/jobs/{job}":          a.onJob(a.jobVerbs.handleRemove, a.jobVerbs.removeBroken),
		"POST /v1/restore":               a.moveVerbs.handleRestore,
		"GET /v1/moves":                  a.looking(a.moveVerbs.handleMoves),
		"GET /v1/moves/{move}":           a.looking(a.moveVerbs.handleMoveRecord),
		"GET /v1/moves/{move}/resolve":   a.moveVerbs.handleResolve,
		"POST /v1/moves/{move}/resolve":  a.moveVerbs.handleResolve,
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if err := a.admitted(w, r, who, pattern, h); err != nil {
				httpjson.ReplyError(w, err)
			}
		})
	}
	return mux
}

// admitted answers a request, if its caller is known and has room for its body.
func (a *Server) admitted(w http.ResponseWriter, r *http.Request, who func(*http.Request) (caller.Caller, error), pattern string, h handler) error {
	c, err := who(r)
	if err != nil {
		return &api.Error{Code: api.CodeForbidden, Message: err.Error()}
	}
	most := int64(httpjson.MaxBody)
	if carriesCommand[pattern] {
		most = api.MaxCommandBody
	}
	give, err := a.admitBody(w, r, c, most)
	if err != nil {
		return err
	}
	defer give()
	return h(w, r, c)
}

// carriesCommand are the requests that have arguments and environment in them.
var carriesCommand = map[string]bool{"POST /v1/jobs": true, "POST /v1/jobs/{job}/exec": true}

// onJob finds the job that a request names. One that has moved on is answered by
// the node that it moved to. For one whose record cannot be read there may be another
// handler.
func (a *Server) onJob(h jobHandler, broken ...brokenHandler) handler {
	return func(w http.ResponseWriter, r *http.Request, c caller.Caller) error {
		rec, err := a.find(r.Context(), r.PathValue("job"), c)
		var unread *job.RecordError
		switch {
		case errors.As(err, &unread) && len(broken) > 0:
			return broken[0](w, r, c, unread)
		case errors.As(err, &unread):
			return a.jobVerbs.cannotRead(r.Context(), unread)
		}
		if err != nil {
			return err
		}
		if rec.MovedTo != nil {
			return a.passOn(w, r, c, rec)
		}
		return h(w, r, c, rec)
	}
}

func (a *Server) PeerHandler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", a.routes(caller.FromPeer))
	for pattern, answer := range map[string]peer.PeerQuestion{
		"GET " + peer.PeerPath + "/{job}":             a.Copies.AnswerStanding,
		"POST " + peer.PeerPath + "/{job}/grant":      a.Copies.AnswerGrant,
		"POST " + peer.PeerPath + "/{job}/superseded": a.Copies.AnswerSuperseded,
		"POST " + peer.PeerPath:                       a.Copies.AnswerNews,
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

// New returns the server of a node.
func New(t *transfer.Transfers) *Server {
	a := &Server{Node: t.Node, Transfers: t, Peers: t.Peers, Launcher: t.Launcher, Sources: t.Sources, Targets: t.Targets, Copies: t.Copies,
		Arrivals: t.Arrivals, Recovery: t.Recovery, Resolver: t.Resolver, History: t.History}
	a.jobVerbs, a.moveVerbs = &jobServer{a}, &moveServer{a}
	a.bodies, a.looks, a.visits = caller.NewShare(userBodies, allBodies), caller.NewShare(userLooks, allLooks), caller.NewShare(userVisits, allVisits)
	return a
}
