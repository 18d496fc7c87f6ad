package server

import (
	"net/http"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/caller"
	"github.com/migrate-hpc/migrate/agent/httpjson"
	"github.com/migrate-hpc/migrate/agent/peer"
	"github.com/migrate-hpc/migrate/transport"
)

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
