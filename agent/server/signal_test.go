package server

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/node/nodetest"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/shim"
)

func TestExecThatIsNotPossibleNowIsNotCalledOver(t *testing.T) {
	says := func(st shim.Status) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(st) }
	}
	for name, c := range map[string]struct {
		frozen             bool
		shim               http.HandlerFunc
		message, where, do string
	}{
		"frozen":   {true, says(shim.Status{State: shim.Running, Init: 1 << 30}), "suspended", "on here, suspended", "scontrol resume"},
		"slow":     {false, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "does not answer", "on here, running", "again"},
		"arriving": {false, says(shim.Status{State: shim.Waiting}), "not run here yet", "on here, arriving", "inspect"},
		"gone":     {false, nil, "does not run any more", "over", "how it ended"},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAgent(t)
			rec := nodetest.Known(t, a.Node, func(r *job.Record) {
				if c.frozen {
					r.Cgroup = nodetest.FrozenCgroup(t).Dirs
				}
			})
			if c.shim != nil {
				nodetest.PlayShim(t, a.Node, rec.ID, c.shim)
			}
			w := answer(a, nodetest.Owner, httptest.NewRequest("POST", "/v1/jobs/"+string(rec.ID)+"/exec", strings.NewReader(`{"args":["true"]}`)))
			var e api.Error
			if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil {
				t.Fatal(err, w.Body)
			}
			if e.Code != api.CodeFailed && e.Code != api.CodeSuspended || !strings.Contains(e.Message, c.message) || e.Where != c.where || !strings.Contains(e.Hint, c.do) {
				t.Errorf("got %+v", e)
			}
		})
	}
}

func TestLogsEndOnlyWithAJobThatIsNotHereAnyMore(t *testing.T) {
	over := map[api.JobState]bool{api.JobExited: true, api.JobLost: true, api.JobMoved: true} // one that was saved may be elsewhere
	for _, s := range []api.JobState{api.JobRunning, api.JobFrozen, api.JobSuspended, api.JobArriving, api.JobMoved, api.JobExited, api.JobSaved, api.JobLost} {
		for _, init := range []int{0, 7} {
			err := execRefusal(api.Job{State: s, Init: init})
			if s == api.JobRunning && init != 0 {
				if err != nil {
					t.Errorf("a running job: %v", err)
				}
				continue
			}
			var told *api.Error
			if !errors.As(err, &told) || (told.Where == "over") != over[s] {
				t.Errorf("%s, %d: %+v", s, init, err)
			}
		}
	}
}

func TestSignalThatDoesNotGetThroughSaysInWhatStateTheJobIs(t *testing.T) {
	for state, want := range map[shim.State]api.Error{
		shim.Exited:   {Message: "does not run any more", Where: "over"},
		shim.Starting: {Message: "the job is starting", Where: "on here", Hint: "migrate inspect"},
	} {
		a := newAgent(t)
		rec := nodetest.Known(t, a.Node, nil)
		nodetest.PlayShim(t, a.Node, rec.ID, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/signal" {
				w.WriteHeader(http.StatusConflict)
				_ = json.NewEncoder(w).Encode(map[string]string{"error": "the job is " + string(state)})
				return
			}
			_ = json.NewEncoder(w).Encode(shim.Status{State: state})
		})
		w := answer(a, nodetest.Owner, httptest.NewRequest("POST", "/v1/jobs/"+string(rec.ID)+"/signal", strings.NewReader(`{"signal":15}`)))
		var e api.Error
		if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil {
			t.Fatalf("%v in %s", err, w.Body)
		}
		if w.Code == http.StatusOK || !strings.Contains(e.Message, want.Message) || e.Where != want.Where || !strings.Contains(e.Hint, want.Hint) {
			t.Errorf("%s: %d %+v", state, w.Code, e)
		}
	}
}

// A shim writes the end of its job down before it says of itself that it is over.
func TestKillEndsWhenTheEndIsWrittenDown(t *testing.T) {
	a := newAgent(t)
	for want, exit := range map[bool]*job.Exit{true: nil, false: {Signal: 9}} {
		rec := nodetest.Known(t, a.Node, func(r *job.Record) { r.Exit = exit })
		nodetest.PlayShim(t, a.Node, rec.ID, func(w http.ResponseWriter, _ *http.Request) {
			_ = json.NewEncoder(w).Encode(shim.Status{State: shim.Running, Shim: os.Getpid()})
		})
		if got := a.jobVerbs.stillRuns(t.Context(), rec.ID); got != want {
			t.Errorf("its end is %+v: it runs: %v", exit, got)
		}
	}
}
