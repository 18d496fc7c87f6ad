package server

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/caller"
	"github.com/migrate-hpc/migrate/agent/node/nodetest"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/testenv"
	"github.com/migrate-hpc/migrate/transport"
)

func TestFindTakesAnIDOrANameThatIsTheCallersOwn(t *testing.T) {
	a := newAgent(t)
	named := func(name string, uid uint32, over bool) job.Record {
		return nodetest.Known(t, a.Node, func(r *job.Record) {
			r.Spec.Name, r.Spec.UID = name, uid
			if over {
				r.Exit = &job.Exit{}
			}
		})
	}
	alone, strangers := named("alone", 1000, false), named("alone", 2000, false)
	alive := named("again", 1000, false)
	named("again", 1000, true)
	named("twice", 1000, false)
	named("twice", 1000, false)
	named("over", 1000, true)
	named("over", 1000, true)
	ours, roots := named("ours", 1000, false), named("ours", 0, true)
	named("", 1000, false)
	for _, c := range []struct {
		ref  string
		who  caller.Caller
		want job.ID
		code api.Code
	}{
		{string(alone.ID), nodetest.Owner, alone.ID, ""},
		{string(alone.ID), nodetest.Operator, alone.ID, ""},
		{string(alone.ID), nodetest.Stranger, "", api.CodeForbidden},
		{string(job.NewID()), nodetest.Owner, "", api.CodeNotFound},
		{"alone", nodetest.Owner, alone.ID, ""},
		{"alone", nodetest.Stranger, strangers.ID, ""},
		{"alone", nodetest.Operator, "", api.CodeNotFound}, // two users have one each, and root none
		{"again", nodetest.Operator, "", api.CodeNotFound}, // another user's only one that is not over
		{"ours", nodetest.Operator, roots.ID, ""},          // another user has a job of that name, too
		{"ours", nodetest.Owner, ours.ID, ""},
		{"again", nodetest.Owner, alive.ID, ""}, // the one that is not over
		{"again", nodetest.Stranger, "", api.CodeNotFound},
		{"twice", nodetest.Owner, "", api.CodeUsage},
		{"over", nodetest.Owner, "", api.CodeUsage},
		{"none", nodetest.Owner, "", api.CodeNotFound},
		{"", nodetest.Owner, "", api.CodeNotFound},
		{"../../etc/passwd", nodetest.Operator, "", api.CodeNotFound},
	} {
		rec, err := a.find(t.Context(), c.ref, c.who)
		if nodetest.CodeOf(err) != c.code || (err == nil && rec.ID != c.want) {
			t.Errorf("%q for %d: %s %v, want %s %s", c.ref, c.who.UID, rec.ID, err, c.want, c.code)
		}
	}
}

// Users choose names: one that root types leads into no job of theirs, locally or as another
// node's root.
func TestFindByNameLeadsRootIntoNoUsersJob(t *testing.T) {
	a := newAgent(t)
	over := nodetest.Known(t, a.Node, func(r *job.Record) { r.Spec.Name, r.MovedTo = "sim", &job.Moved{Node: "there", Addr: "127.0.0.1:1"} })
	rec := nodetest.Known(t, a.Node, func(r *job.Record) { r.Spec.Name, r.Created = "sim", over.Created.Add(-time.Hour) })
	elsewhere := nodetest.Operator
	elsewhere.Peer = "there"
	for _, c := range []caller.Caller{nodetest.Operator, elsewhere} {
		for _, q := range aboutAJob {
			w := answer(a, c, httptest.NewRequest(q[0], "/v1/jobs/sim"+q[1], strings.NewReader(`{"args":["true"],"signal":9,"node":"there"}`)))
			var e api.Error
			if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || w.Code != http.StatusNotFound {
				t.Errorf("%s %s: %d %s", q[0], q[1], w.Code, w.Body)
			}
			if !strings.Contains(e.Message, string(rec.ID)+" (user 1000), "+string(over.ID)+" (user 1000, not here any more)") || !strings.HasSuffix(e.Hint, string(rec.ID)) {
				t.Errorf("%s %s: %+v does not say what to type", q[0], q[1], e)
			}
		}
	}
	if known, err := a.Jobs.Get(rec.ID); err != nil || known.Epoch != rec.Epoch {
		t.Errorf("the job was touched: %+v %v", known, err)
	}
}

func TestForbiddenSaysNothingAboutTheJob(t *testing.T) {
	a := newAgent(t)
	rec := nodetest.Known(t, a.Node, func(r *job.Record) { r.Spec.Name, r.Spec.Args = "secret-name", []string{"secret-command"} })
	for _, h := range []string{"", "/logs?stream=stdout", "/wait"} {
		w := answer(a, nodetest.Stranger, httptest.NewRequest("GET", "/v1/jobs/"+string(rec.ID)+h, nil))
		if w.Code != http.StatusForbidden || strings.Contains(w.Body.String(), "secret") {
			t.Errorf("%s: %d %s", h, w.Code, w.Body)
		}
	}
	w := answer(a, nodetest.Stranger, httptest.NewRequest("GET", "/v1/jobs", nil))
	if w.Code != http.StatusOK || strings.TrimSpace(w.Body.String()) != "[]" {
		t.Errorf("the list: %d %s", w.Code, w.Body)
	}
}

// answer has the agent answer a local caller.
func answer(a *Server, c caller.Caller, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	a.LocalHandler().ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), caller.ContextKey{}, c)))
	return w
}

func TestRequestsThatMakeNoSenseAreTheCallersMistake(t *testing.T) {
	a := newAgent(t)
	rec := nodetest.Known(t, a.Node, nil)
	job := "/v1/jobs/" + string(rec.ID)
	for _, c := range []struct{ method, path, body string }{
		{"POST", "/v1/jobs", "{"}, {"POST", "/v1/jobs", `{"unknown":1}`}, {"POST", "/v1/jobs", `{"spec":{"args":[]}}`},
		{"POST", job + "/signal", `{"signal":0}`}, {"POST", job + "/signal", `{"signal":65}`}, {"POST", job + "/signal", `[]`},
		{"GET", job + "/logs?stream=stdin", ""}, {"GET", job + "/logs?stream=stdout&offset=-1", ""}, {"GET", job + "/logs?stream=stdout&offset=x", ""},
		{"POST", job + "/move", `{"node":""}`}, {"POST", job + "/move", `{"node":"here"}`},
		{"POST", job + "/checkpoint", `{"dir":"relative"}`}, {"POST", "/v1/restore", `{"dir":"relative"}`}, {"POST", "/v1/restore", `{"dir":"/x","clock":"sundial"}`},
		{"POST", "/v1/restore", `{"dir":"/no/such/dir"}`},
	} {
		w := answer(a, nodetest.Owner, httptest.NewRequest(c.method, c.path, strings.NewReader(c.body)))
		var e api.Error
		if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || w.Code != http.StatusBadRequest || e.Code != api.CodeUsage || e.Message == "" {
			t.Errorf("%s %s %s: %d %s", c.method, c.path, c.body, w.Code, w.Body)
		}
	}
}

func TestCallerWithoutANameIsRefused(t *testing.T) {
	a := newAgent(t)
	w := httptest.NewRecorder()
	a.LocalHandler().ServeHTTP(w, httptest.NewRequest("GET", "/v1/jobs", nil))
	if w.Code != http.StatusForbidden {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	w = httptest.NewRecorder()
	a.PeerHandler().ServeHTTP(w, httptest.NewRequest("GET", "/v1/jobs", nil)) // without TLS
	if w.Code != http.StatusForbidden {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
}

func TestCallerHeadersOfAPeerAreReadStrictly(t *testing.T) {
	id := testenv.NewAuthority(t).Node(t, "there")
	request := func(headers map[string]string) *http.Request {
		r := httptest.NewRequest("GET", "/v1/jobs", nil)
		r.TLS = &tls.ConnectionState{}
		r.TLS.PeerCertificates = append(r.TLS.PeerCertificates, id.Cert.Leaf)
		r.TLS.VerifiedChains = append(r.TLS.VerifiedChains, r.TLS.PeerCertificates)
		for k, v := range headers {
			r.Header.Set(k, v)
		}
		return r
	}
	if _, err := transport.PeerOf(request(nil)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []caller.Caller{{UID: 1000, GID: 100, Groups: []uint32{1, 2, 3}}, {}, {UID: 1<<32 - 2, GID: 5}} {
		r := request(nil)
		c.SetHeaders(r.Header)
		got, err := caller.FromPeer(r)
		c.Peer = "there"
		if err != nil || !reflect.DeepEqual(got, c) {
			t.Errorf("got %+v %v, want %+v", got, err, c)
		}
	}
	for _, h := range []map[string]string{
		{}, {caller.UIDHeader: "1000"}, {caller.GIDHeader: "1000"}, {caller.UIDHeader: "", caller.GIDHeader: ""}, {caller.UIDHeader: "root", caller.GIDHeader: "0"}, {caller.UIDHeader: "-1", caller.GIDHeader: "0"},
		{caller.UIDHeader: "4294967296", caller.GIDHeader: "0"}, {caller.UIDHeader: "1", caller.GIDHeader: "1", caller.GroupsHeader: "1 x"}, {caller.UIDHeader: "1", caller.GIDHeader: "1", caller.GroupsHeader: "[1 2]"}, {caller.UIDHeader: " 0", caller.GIDHeader: "0"},
	} {
		if c, err := caller.FromPeer(request(h)); err == nil {
			t.Errorf("%v passes for %+v", h, c)
		}
	}
}

func TestForwardedRequestThatGoesRoundInCirclesEnds(t *testing.T) {
	a := newAgent(t)
	a.Identity = testenv.NewAuthority(t).Node(t, "here")
	addr := a.reachable(t)
	rec := nodetest.Known(t, a.Node, func(r *job.Record) {
		r.Spec.Name, r.MovedTo = "lost", &job.Moved{Node: "here", Addr: addr}
	})
	for _, ref := range []string{string(rec.ID), "lost"} {
		for _, said := range []string{"", "x", "-1000000000", "99999999999999999999"} {
			r := httptest.NewRequest("GET", "/v1/jobs/"+ref, nil)
			r.Header.Set(caller.HopsHeader, said)
			if w := answer(a, nodetest.Owner, r); !strings.Contains(w.Body.String(), "was not found within 16 nodes") {
				t.Errorf("%s, %q hops: %d %s", ref, said, w.Code, w.Body)
			}
		}
	}
}

func TestForwardedRequestSpeaksForItsCallerOnly(t *testing.T) {
	ca := testenv.NewAuthority(t)
	from, to := newAgent(t), newAgent(t)
	from.Identity, to.Identity = ca.Node(t, "from"), ca.Node(t, "to")
	to.Config.Node = "to"
	rec := nodetest.Known(t, to.Node, func(r *job.Record) { r.Exit = &job.Exit{Code: 7} })
	gone := rec
	gone.Exit, gone.MovedTo = nil, &job.Moved{Node: "to", Addr: to.reachable(t)}
	if err := from.Jobs.Create(gone); err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest("GET", "/v1/jobs/"+string(rec.ID), nil)
	nodetest.Operator.SetHeaders(r.Header) // what a caller says of itself does not count
	w := answer(from, nodetest.Owner, r)
	var j api.Job
	if err := json.Unmarshal(w.Body.Bytes(), &j); err != nil || w.Code != http.StatusOK || j.Node != "to" || j.Exit == nil || j.Exit.Code != 7 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := answer(from, nodetest.Stranger, r); w.Code != http.StatusForbidden {
		t.Errorf("a nodetest.Stranger gets %d %s", w.Code, w.Body)
	}
	if f := from.Copies.Fates(testenv.Bounded(t), []job.Record{gone}, testenv.Patience)[rec.ID]; f.State != api.JobExited || f.Exit == nil || f.Exit.Code != 7 {
		t.Errorf("asked: %+v", f)
	}
	for range 2 { // removing is removing everywhere, and twice is once
		if w := answer(from, nodetest.Owner, httptest.NewRequest("DELETE", "/v1/jobs/"+string(rec.ID), nil)); w.Code != http.StatusNoContent && w.Code != http.StatusNotFound {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	}
	for _, a := range []*Server{from, to} {
		if _, err := a.Jobs.Get(rec.ID); err == nil {
			t.Errorf("%s still knows it", a.Config.Node)
		}
	}
	if f := from.Copies.Fates(testenv.Bounded(t), []job.Record{gone}, testenv.Patience)[rec.ID]; f.State != api.JobExited {
		t.Errorf("what was forgotten is over: %+v", f)
	}
}

func TestForwardNamesANodeThatDoesNotAnswer(t *testing.T) {
	a := newAgent(t)
	a.Identity = testenv.NewAuthority(t).Node(t, "here")
	rec := nodetest.Known(t, a.Node, func(r *job.Record) { r.MovedTo = &job.Moved{Node: "away", Addr: "127.0.0.1:1"} })
	w := answer(a, nodetest.Owner, httptest.NewRequest("GET", "/v1/jobs/"+string(rec.ID), nil))
	var e api.Error
	if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || e.Code != api.CodeUnreachable || w.Code != http.StatusBadGateway || !strings.Contains(e.Message, "away") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
