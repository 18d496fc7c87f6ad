package server

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httputil"
	"strconv"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/caller"
	"github.com/migrate-hpc/migrate/agent/httpjson"
	"github.com/migrate-hpc/migrate/agent/peer"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/transport"
)

// forward has the node that a job moved to answer a request about it.
func (s *Server) forward(w http.ResponseWriter, r *http.Request, c caller.Caller, rec job.Record) error {
	hops := caller.HopsOf(r)
	if hops >= caller.MaxHops {
		return &api.Error{Code: api.CodeFailed, Message: fmt.Sprintf("job %s was not found within %d nodes that it moved between", rec.ID, hops)}
	}
	to := rec.MovedTo
	t := transport.HTTPTransport(to.Addr, to.Node, s.Identity)
	defer t.CloseIdleConnections()
	proxy := &httputil.ReverseProxy{
		Transport:     t,
		FlushInterval: -1,
		Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.URL.Scheme, p.Out.URL.Host = "https", to.Addr
			p.Out.URL.Path = peer.JobPathByID(p.In, rec.ID)
			for _, h := range []string{caller.UIDHeader, caller.GIDHeader, caller.GroupsHeader} {
				p.Out.Header.Del(h)
			}
			c.SetHeaders(p.Out.Header)
			p.Out.Header.Set(caller.HopsHeader, strconv.Itoa(hops+1))
		},
		ModifyResponse: func(resp *http.Response) error {
			gone := resp.StatusCode == http.StatusNoContent || resp.StatusCode == http.StatusNotFound
			if r.Method != http.MethodDelete || !gone {
				return nil
			}
			// Only this node still knows of the job.
			err := errors.Join(resp.Body.Close(), s.Jobs.Remove(rec.ID))
			resp.StatusCode, resp.Header, resp.Body = http.StatusNoContent, http.Header{}, http.NoBody
			return err
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			if rec.Exit != nil && s.answerEnded(w, r, rec) {
				return
			}
			httpjson.ReplyError(w, &api.Error{Code: api.CodeUnreachable,
				Message: fmt.Sprintf("job %s moved to %s (%s), which does not answer: %v", rec.ID, to.Node, to.Addr, err),
				Where:   "on " + to.Node, Hint: "start the agent there with `migrate agent`; the job does not depend on it"})
		},
	}
	proxy.ServeHTTP(w, r)
	return nil
}

// answerEnded answers, in place of a node that is away, for a job that has ended there. It tells
// whether it answered.
func (s *Server) answerEnded(w http.ResponseWriter, r *http.Request, rec job.Record) bool {
	base := "/v1/jobs/" + r.PathValue("job")
	switch {
	case r.Method == http.MethodDelete:
		if err := s.Jobs.Remove(rec.ID); err != nil {
			httpjson.ReplyError(w, err)
			return true
		}
		w.WriteHeader(http.StatusNoContent)
	case r.Method == http.MethodGet && (r.URL.Path == base || r.URL.Path == base+"/wait"):
		_ = httpjson.Reply(w, s.View(r.Context(), rec))
	default:
		return false
	}
	return true
}
