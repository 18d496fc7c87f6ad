package agent

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

	"github.com/migrate-hpc/migrate/testenv"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/transport"
)

var (
	owner    = caller{uid: 1000, gid: 1000}
	stranger = caller{uid: 2000, gid: 2000}
	operator = caller{}
)

func TestAJobIsFoundByIDOrByANameThatIsTheCallersOwn(t *testing.T) {
	a := newAgent(t)
	named := func(name string, uid uint32, over bool) job.Record {
		return a.known(t, func(r *job.Record) {
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
		who  caller
		want job.ID
		code api.Code
	}{
		{string(alone.ID), owner, alone.ID, ""},
		{string(alone.ID), operator, alone.ID, ""},
		{string(alone.ID), stranger, "", api.CodeForbidden},
		{string(job.NewID()), owner, "", api.CodeNotFound},
		{"alone", owner, alone.ID, ""},
		{"alone", stranger, strangers.ID, ""},
		{"alone", operator, "", api.CodeNotFound}, // two users have one each, and root none
		{"again", operator, "", api.CodeNotFound}, // another user's only one that is not over
		{"ours", operator, roots.ID, ""},          // whoever else calls a job so
		{"ours", owner, ours.ID, ""},
		{"again", owner, alive.ID, ""}, // the one that is not over
		{"again", stranger, "", api.CodeNotFound},
		{"twice", owner, "", api.CodeUsage},
		{"over", owner, "", api.CodeUsage},
		{"none", owner, "", api.CodeNotFound},
		{"", owner, "", api.CodeNotFound},
		{"../../etc/passwd", operator, "", api.CodeNotFound},
	} {
		rec, err := a.find(t.Context(), c.ref, c.who)
		if codeOf(err) != c.code || (err == nil && rec.ID != c.want) {
			t.Errorf("%q for %d: %s %v, want %s %s", c.ref, c.who.uid, rec.ID, err, c.want, c.code)
		}
	}
}

// Users choose names: one that root types leads into no job of theirs, locally or as another
// node's root.
func TestANameLeadsRootIntoNoUsersJob(t *testing.T) {
	a := newAgent(t)
	over := a.known(t, func(r *job.Record) { r.Spec.Name, r.MovedTo = "sim", &job.Moved{Node: "there", Addr: "127.0.0.1:1"} })
	rec := a.known(t, func(r *job.Record) { r.Spec.Name, r.Created = "sim", over.Created.Add(-time.Hour) })
	elsewhere := operator
	elsewhere.peer = "there"
	for _, c := range []caller{operator, elsewhere} {
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
	if known, err := a.jobs.Get(rec.ID); err != nil || known.Epoch != rec.Epoch {
		t.Errorf("the job was touched: %+v %v", known, err)
	}
}

func TestARefusalSaysNothingAboutTheJob(t *testing.T) {
	a := newAgent(t)
	rec := a.known(t, func(r *job.Record) { r.Spec.Name, r.Spec.Args = "secret-name", []string{"secret-command"} })
	for _, h := range []string{"", "/logs?stream=stdout", "/wait"} {
		w := answer(a, stranger, httptest.NewRequest("GET", "/v1/jobs/"+string(rec.ID)+h, nil))
		if w.Code != http.StatusForbidden || strings.Contains(w.Body.String(), "secret") {
			t.Errorf("%s: %d %s", h, w.Code, w.Body)
		}
	}
	w := answer(a, stranger, httptest.NewRequest("GET", "/v1/jobs", nil))
	if w.Code != http.StatusOK || strings.TrimSpace(w.Body.String()) != "[]" {
		t.Errorf("the list: %d %s", w.Code, w.Body)
	}
}

// answer has the agent answer a local caller.
func answer(a *Agent, c caller, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	a.localHandler().ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), callerKey{}, c)))
	return w
}

func TestRequestsThatMakeNoSenseAreTheCallersMistake(t *testing.T) {
	a := newAgent(t)
	rec := a.known(t, nil)
	job := "/v1/jobs/" + string(rec.ID)
	for _, c := range []struct{ method, path, body string }{
		{"POST", "/v1/jobs", "{"}, {"POST", "/v1/jobs", `{"unknown":1}`}, {"POST", "/v1/jobs", `{"spec":{"args":[]}}`},
		{"POST", job + "/signal", `{"signal":0}`}, {"POST", job + "/signal", `{"signal":65}`}, {"POST", job + "/signal", `[]`},
		{"GET", job + "/logs?stream=stdin", ""}, {"GET", job + "/logs?stream=stdout&offset=-1", ""}, {"GET", job + "/logs?stream=stdout&offset=x", ""},
		{"POST", job + "/move", `{"node":""}`}, {"POST", job + "/move", `{"node":"here"}`},
		{"POST", job + "/checkpoint", `{"dir":"relative"}`}, {"POST", "/v1/restore", `{"dir":"relative"}`}, {"POST", "/v1/restore", `{"dir":"/x","clock":"sundial"}`},
		{"POST", "/v1/restore", `{"dir":"/no/such/dir"}`},
	} {
		w := answer(a, owner, httptest.NewRequest(c.method, c.path, strings.NewReader(c.body)))
		var e api.Error
		if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || w.Code != http.StatusBadRequest || e.Code != api.CodeUsage || e.Message == "" {
			t.Errorf("%s %s %s: %d %s", c.method, c.path, c.body, w.Code, w.Body)
		}
	}
}

func TestACallerWithoutANameIsRefused(t *testing.T) {
	a := newAgent(t)
	w := httptest.NewRecorder()
	a.localHandler().ServeHTTP(w, httptest.NewRequest("GET", "/v1/jobs", nil))
	if w.Code != http.StatusForbidden {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	w = httptest.NewRecorder()
	a.peerHandler().ServeHTTP(w, httptest.NewRequest("GET", "/v1/jobs", nil)) // without TLS
	if w.Code != http.StatusForbidden {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
}

func TestAPeersWordForItsCallerIsReadStrictly(t *testing.T) {
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
	for _, c := range []caller{{uid: 1000, gid: 100, groups: []uint32{1, 2, 3}}, {}, {uid: 1<<32 - 2, gid: 5}} {
		r := request(nil)
		c.speakFor(r.Header)
		got, err := peerCaller(r)
		c.peer = "there"
		if err != nil || !reflect.DeepEqual(got, c) {
			t.Errorf("got %+v %v, want %+v", got, err, c)
		}
	}
	for _, h := range []map[string]string{
		{}, {uidHeader: "1000"}, {gidHeader: "1000"}, {uidHeader: "", gidHeader: ""}, {uidHeader: "root", gidHeader: "0"}, {uidHeader: "-1", gidHeader: "0"},
		{uidHeader: "4294967296", gidHeader: "0"}, {uidHeader: "1", gidHeader: "1", groupsHeader: "1 x"}, {uidHeader: "1", gidHeader: "1", groupsHeader: "[1 2]"}, {uidHeader: " 0", gidHeader: "0"},
	} {
		if c, err := peerCaller(request(h)); err == nil {
			t.Errorf("%v passes for %+v", h, c)
		}
	}
}

func TestARequestThatGoesRoundInCirclesEnds(t *testing.T) {
	a := newAgent(t)
	a.id = testenv.NewAuthority(t).Node(t, "here")
	addr := a.reachable(t)
	rec := a.known(t, func(r *job.Record) {
		r.Spec.Name, r.MovedTo = "lost", &job.Moved{Node: "here", Addr: addr}
	})
	for _, ref := range []string{string(rec.ID), "lost"} {
		for _, said := range []string{"", "x", "-1000000000", "99999999999999999999"} {
			r := httptest.NewRequest("GET", "/v1/jobs/"+ref, nil)
			r.Header.Set(hopsHeader, said)
			if w := answer(a, owner, r); !strings.Contains(w.Body.String(), "was not found within 16 nodes") {
				t.Errorf("%s, %q hops: %d %s", ref, said, w.Code, w.Body)
			}
		}
	}
}

func TestARequestIsPassedOnForItsCallerAndForNobodyElse(t *testing.T) {
	ca := testenv.NewAuthority(t)
	from, to := newAgent(t), newAgent(t)
	from.id, to.id = ca.Node(t, "from"), ca.Node(t, "to")
	to.cfg.Node = "to"
	rec := to.known(t, func(r *job.Record) { r.Exit = &job.Exit{Code: 7} })
	gone := rec
	gone.Exit, gone.MovedTo = nil, &job.Moved{Node: "to", Addr: to.reachable(t)}
	if err := from.jobs.Create(gone); err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest("GET", "/v1/jobs/"+string(rec.ID), nil)
	operator.speakFor(r.Header) // what a caller says of itself does not count
	w := answer(from, owner, r)
	var j api.Job
	if err := json.Unmarshal(w.Body.Bytes(), &j); err != nil || w.Code != http.StatusOK || j.Node != "to" || j.Exit == nil || j.Exit.Code != 7 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := answer(from, stranger, r); w.Code != http.StatusForbidden {
		t.Errorf("a stranger gets %d %s", w.Code, w.Body)
	}
	if f := from.fates(testenv.Bounded(t), []job.Record{gone}, testenv.Patience)[rec.ID]; f.State != api.JobExited || f.Exit == nil || f.Exit.Code != 7 {
		t.Errorf("asked: %+v", f)
	}
	for range 2 { // removing is removing everywhere, and twice is once
		if w := answer(from, owner, httptest.NewRequest("DELETE", "/v1/jobs/"+string(rec.ID), nil)); w.Code != http.StatusNoContent && w.Code != http.StatusNotFound {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	}
	for _, a := range []*Agent{from, to} {
		if _, err := a.jobs.Get(rec.ID); err == nil {
			t.Errorf("%s still knows it", a.cfg.Node)
		}
	}
	if f := from.fates(testenv.Bounded(t), []job.Record{gone}, testenv.Patience)[rec.ID]; f.State != api.JobExited {
		t.Errorf("what was forgotten is over: %+v", f)
	}
}

func TestANodeThatDoesNotAnswerIsNamed(t *testing.T) {
	a := newAgent(t)
	a.id = testenv.NewAuthority(t).Node(t, "here")
	rec := a.known(t, func(r *job.Record) { r.MovedTo = &job.Moved{Node: "away", Addr: "127.0.0.1:1"} })
	w := answer(a, owner, httptest.NewRequest("GET", "/v1/jobs/"+string(rec.ID), nil))
	var e api.Error
	if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || e.Code != api.CodeUnreachable || w.Code != http.StatusBadGateway || !strings.Contains(e.Message, "away") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestAJobLeavesByOneWayAtATime(t *testing.T) {
	a, id := newAgent(t), job.NewID()
	release, err := a.claim(id, "m1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.claim(id, "m2"); err == nil || !strings.Contains(err.Error(), "m1") || !a.moving(id) {
		t.Errorf("got %v", err)
	}
	release()
	if a.moving(id) {
		t.Error("it is still claimed")
	}
	if release, err = a.claim(id, "m2"); err != nil {
		t.Fatal(err)
	}
	release()
}

func TestAJobWhoseShimIsGoneIsLostUnlessItsRecordSaysMore(t *testing.T) {
	a := newAgent(t)
	for want, edit := range map[api.JobState]func(*job.Record){
		api.JobLost:   nil,
		api.JobExited: func(r *job.Record) { r.Exit = &job.Exit{CPU: time.Second} },
		api.JobMoved:  func(r *job.Record) { r.MovedTo = &job.Moved{Node: "there"} },
		api.JobSaved:  func(r *job.Record) { r.SavedIn = "/dir" },
	} {
		rec := a.known(t, edit)
		if v := a.view(testenv.Bounded(t), rec); v.State != want {
			t.Errorf("got %s, want %s", v.State, want)
		}
		rec.Exit, rec.MovedTo, rec.SavedIn = nil, nil, "" // as read just before it was written
		if v := a.view(testenv.Bounded(t), rec); v.State != want {
			t.Errorf("looked at too early: got %s, want %s", v.State, want)
		}
	}
}
