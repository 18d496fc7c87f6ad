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

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/transport"
)

// maxHops ends a request that is passed round in circles.
const maxHops = 16

// passOn lets the node that a job moved to answer a request about it.
func (a *Agent) passOn(w http.ResponseWriter, r *http.Request, c caller, rec job.Record) error {
	hops, _ := strconv.Atoi(r.Header.Get(hopsHeader))
	if hops >= maxHops {
		return &api.Error{Code: api.Failed, Message: fmt.Sprintf("job %s was not found within %d nodes that it moved between", rec.ID, hops)}
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
			replyError(w, &api.Error{Code: api.Unreachable,
				Message: fmt.Sprintf("job %s moved to %s (%s), which does not answer: %v", rec.ID, to.Node, to.Addr, err),
				Where:   "on " + to.Node, Hint: "see that the agent runs there; the job does not depend on it"})
		},
	}
	proxy.ServeHTTP(w, r)
	return nil
}

// askAbout asks another node how a job is that has been there.
func (a *Agent) askAbout(ctx context.Context, id job.ID, at job.Moved, c caller) (j api.Job, err error) {
	t := transport.HTTPTransport(a.peerAddr(at.Node, at.Addr), at.Node, a.id)
	defer t.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, "GET", "https://"+at.Node+"/v1/jobs/"+string(id), nil)
	if err != nil {
		return j, err
	}
	c.speakFor(req.Header)
	resp, err := t.RoundTrip(req)
	if err != nil {
		return j, err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNotFound { // forgotten there, which only an ended job can be
		return api.Job{State: api.Exited, Node: at.Node}, nil
	}
	if resp.StatusCode != http.StatusOK {
		return j, fmt.Errorf("%s answers %s", at.Node, resp.Status)
	}
	return j, json.NewDecoder(io.LimitReader(resp.Body, maxBody)).Decode(&j)
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
