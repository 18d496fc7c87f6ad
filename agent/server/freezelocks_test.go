package server

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/node/nodetest"
	"github.com/migrate-hpc/migrate/shim"
	"github.com/migrate-hpc/migrate/testenv"
)

func TestShimThatDoesNotAnswerIsGivenUp(t *testing.T) {
	a := newAgent(t)
	rec := nodetest.Known(t, a.Node, nil)
	over := make(chan struct{})
	nodetest.PlayShim(t, a.Node, rec.ID, func(http.ResponseWriter, *http.Request) { <-over })
	t.Cleanup(func() { close(over) })
	testenv.InTime(t, func() {
		for _, r := range []*http.Request{
			httptest.NewRequest("POST", "/v1/jobs/"+string(rec.ID)+"/signal", strings.NewReader(`{"signal":15}`)),
			httptest.NewRequest("DELETE", "/v1/jobs/"+string(rec.ID)+"?force=true", nil),
		} {
			w := answer(a, nodetest.Owner, r)
			if w.Code == http.StatusOK || w.Code == http.StatusNoContent || !strings.Contains(w.Body.String(), "has not answered") {
				t.Errorf("%s: %d %s", r.Method, w.Code, w.Body)
			}
		}
		if err := a.jobVerbs.signal(testenv.Bounded(t), rec, syscall.SIGKILL); nodetest.CodeOf(err) != api.CodeFailed {
			t.Errorf("got %v", err)
		}
	})
	if _, err := a.Jobs.Get(rec.ID); err != nil {
		t.Errorf("the job was forgotten while it runs: %v", err)
	}
}

func TestListAsksTheShimsOfAllJobsTogether(t *testing.T) {
	a := newAgent(t)
	const jobs = 4
	var asked sync.WaitGroup // none answers until all have been asked
	asked.Add(jobs)
	for range jobs {
		var once sync.Once
		nodetest.PlayShim(t, a.Node, nodetest.Known(t, a.Node, nil).ID, func(w http.ResponseWriter, r *http.Request) {
			once.Do(asked.Done)
			asked.Wait()
			_ = json.NewEncoder(w).Encode(shim.Status{State: shim.Running, Shim: 7})
		})
	}
	w := answer(a, nodetest.Owner, httptest.NewRequest("GET", "/v1/jobs", nil))
	var views []api.Job
	if err := json.Unmarshal(w.Body.Bytes(), &views); err != nil || len(views) != jobs {
		t.Fatalf("%v, %s", err, w.Body)
	}
	for _, v := range views {
		if v.Shim != 7 {
			t.Errorf("job %s is shown without what its shim says", v.ID)
		}
	}
}
