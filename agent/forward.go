package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"strconv"
	"time"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/transport"
)

// maxHops ends a request that is passed round in circles.
const maxHops = 16

// hopsOf is how often a request was passed on. Users can set it, so a number that no agent sends
// is as bad as the most.
func hopsOf(r *http.Request) int {
	hops, _ := strconv.Atoi(r.Header.Get(hopsHeader))
	if hops < 0 || hops > maxHops {
		return maxHops
	}
	return hops
}

// passOn lets the node that a job moved to answer a request about it.
func (a *Agent) passOn(w http.ResponseWriter, r *http.Request, c caller, rec job.Record) error {
	hops := hopsOf(r)
	if hops >= maxHops {
		return &api.Error{Code: api.CodeFailed, Message: fmt.Sprintf("job %s was not found within %d nodes that it moved between", rec.ID, hops)}
	}
	to := rec.MovedTo
	t := transport.HTTPTransport(to.Addr, to.Node, a.id)
	defer t.CloseIdleConnections()
	proxy := &httputil.ReverseProxy{
		Transport:     t,
		FlushInterval: -1,
		Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.URL.Scheme, p.Out.URL.Host = "https", to.Addr
			p.Out.URL.Path = jobPathById(p.In, rec.ID)
			for _, h := range []string{uidHeader, gidHeader, groupsHeader} {
				p.Out.Header.Del(h)
			}
			c.speakFor(p.Out.Header)
			p.Out.Header.Set(hopsHeader, strconv.Itoa(hops+1))
		},
		ModifyResponse: func(resp *http.Response) error {
			gone := resp.StatusCode == http.StatusNoContent || resp.StatusCode == http.StatusNotFound
			if r.Method != http.MethodDelete || !gone {
				return nil
			}
			// Nobody knows of the job any more but this node.
			err := errors.Join(resp.Body.Close(), a.jobs.Remove(rec.ID))
			resp.StatusCode, resp.Header, resp.Body = http.StatusNoContent, http.Header{}, http.NoBody
			return err
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			if rec.Exit != nil && a.answerOver(w, r, rec) {
				return
			}
			replyError(w, &api.Error{Code: api.CodeUnreachable,
				Message: fmt.Sprintf("job %s moved to %s (%s), which does not answer: %v", rec.ID, to.Node, to.Addr, err),
				Where:   "on " + to.Node, Hint: "start the agent there with `migrate agent`; the job does not depend on it"})
		},
	}
	proxy.ServeHTTP(w, r)
	return nil
}

// answerOver answers, instead of a node that is away, for a job that is known to have ended there. It
// tells whether it has.
func (a *Agent) answerOver(w http.ResponseWriter, r *http.Request, rec job.Record) bool {
	base := "/v1/jobs/" + r.PathValue("job")
	switch {
	case r.Method == http.MethodDelete:
		if err := a.jobs.Remove(rec.ID); err != nil {
			replyError(w, err)
			return true
		}
		w.WriteHeader(http.StatusNoContent)
	case r.Method == http.MethodGet && (r.URL.Path == base || r.URL.Path == base+"/wait"):
		_ = reply(w, a.view(r.Context(), rec))
	default:
		return false
	}
	return true
}

// maxAnswer bounds what another node answers, in bytes.
const maxAnswer = 8 << 20

// askTime is how long another node may take to answer a question.
const askTime = 5 * time.Second

// askMove asks another node for what it keeps of a move.
func (a *Agent) askMove(ctx context.Context, m handoff.MoveID, at job.Moved, c caller, hops int) (r api.MoveRecord, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	if _, err = a.get(ctx, "/v1/moves/"+string(m), at, c, hops+1, &r); err == nil && r.Move != string(m) {
		err = fmt.Errorf("%s answers about another move", at.Node)
	}
	return r, err
}

// get asks another node's API on behalf of the caller.
func (a *Agent) get(ctx context.Context, path string, at job.Moved, c caller, hops int, into any) (status int, err error) {
	t := transport.HTTPTransport(a.peerAddr(at.Node, at.Addr), at.Node, a.id)
	defer t.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, "GET", "https://"+at.Node+path, nil)
	if err != nil {
		return 0, err
	}
	c.speakFor(req.Header)
	req.Header.Set(hopsHeader, strconv.Itoa(hops))
	resp, err := t.RoundTrip(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return resp.StatusCode, fmt.Errorf("%s answers %s", at.Node, resp.Status)
	}
	return resp.StatusCode, json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(into)
}

// jobPathById names the job by its id, whatever the caller called it: over there
// another job may have the name.
func jobPathById(r *http.Request, id job.ID) string {
	path := "/v1/jobs/" + string(id)
	if rest := len("/v1/jobs/") + len(r.PathValue("job")); rest < len(r.URL.Path) {
		path += r.URL.Path[rest:]
	}
	return path
}
