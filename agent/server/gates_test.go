package server

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/node"
	"github.com/migrate-hpc/migrate/agent/node/nodetest"
	"github.com/migrate-hpc/migrate/agent/source"
	"github.com/migrate-hpc/migrate/checkpoint"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/namespaces/cgroup"
	"github.com/migrate-hpc/migrate/shim"
	"github.com/migrate-hpc/migrate/testenv"
)

// inTime runs what could hang and fails the test if it does.
func inTime(t testing.TB, do func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		do()
	}()
	select {
	case <-done:
	case <-time.After(testenv.Patience):
		t.Fatalf("it hangs: no end within %v", testenv.Patience)
	}
}

// leaving is a departure whose job is not there to be frozen.
func leaving(t *testing.T, a *Server, id job.ID) *source.Job {
	cg := &cgroup.Cgroup{Dirs: map[string]string{cgroup.Unified: filepath.Join(t.TempDir(), "none")}}
	return &source.Job{A: a.Sources, Rec: job.Record{ID: id}, Src: &checkpoint.Source{Cgroup: cg}}
}

func TestASignalHoldsUpTheFreezeOfItsOwnJobOnly(t *testing.T) {
	a, one := newAgent(t), job.NewID()
	leave, err := a.FreezeLocks.Pass(testenv.Bounded(t), one)
	if err != nil {
		t.Fatal(err)
	}
	inTime(t, func() {
		for range 1000 {
			d := leaving(t, a, job.NewID())
			if err := d.Freeze(testenv.Bounded(t)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the freeze of another job: %v", err)
			}
		}
		again, err := a.FreezeLocks.Pass(testenv.Bounded(t), one)
		if err != nil {
			t.Fatal(err)
		}
		again()
		why := errors.New("the time of the freeze is over")
		ctx, cancel := context.WithCancelCause(context.Background())
		cancel(why)
		if err := leaving(t, a, one).Freeze(ctx); !errors.Is(err, why) || !strings.Contains(err.Error(), "signal") {
			t.Errorf("a freeze that waits for a signal: %v", err)
		}
		leave()
		if err := leaving(t, a, one).Freeze(testenv.Bounded(t)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the freeze after the signal: %v", err)
		}
	})
	if len(a.FreezeLocks.Jobs) > 0 {
		t.Errorf("gates that nobody is at are kept: %v", a.FreezeLocks.Jobs)
	}
}

func TestAFreezeIsNotOvertakenBySignals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g node.FreezeLocks
		id := job.NewID()
		leave, err := g.Pass(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		var order []string
		come := func(name string, take func(context.Context, job.ID) (func(), error)) {
			go func() {
				done, err := take(t.Context(), id)
				if err != nil {
					t.Error(err)
					return
				}
				order = append(order, name)
				done()
			}()
			synctest.Wait()
		}
		come("freeze", g.Shut)
		come("signal", g.Pass)
		if len(order) > 0 {
			t.Errorf("%v got through", order)
		}
		leave()
		synctest.Wait()
		if !slices.Equal(order, []string{"freeze", "signal"}) || len(g.Jobs) > 0 {
			t.Errorf("got through: %v; at a gate: %v", order, g.Jobs)
		}
	})
}

// playShim answers for a job as h does.
func (a *Server) playShim(t testing.TB, id job.ID, h http.HandlerFunc) {
	t.Helper()
	dir := a.Paths.JobRun(id)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(dir, "shim.sock"))
	if err != nil {
		t.Fatal(err)
	}
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: h}}
	s.Start()
	t.Cleanup(s.Close)
}

func TestAShimThatDoesNotAnswerIsGivenUp(t *testing.T) {
	a := newAgent(t)
	rec := nodetest.Known(t, a.Node, nil)
	over := make(chan struct{})
	a.playShim(t, rec.ID, func(http.ResponseWriter, *http.Request) { <-over })
	t.Cleanup(func() { close(over) })
	inTime(t, func() {
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

func TestAListAsksTheShimsOfAllJobsTogether(t *testing.T) {
	a := newAgent(t)
	const jobs = 4
	var asked sync.WaitGroup // none answers until all have been asked
	asked.Add(jobs)
	for range jobs {
		var once sync.Once
		a.playShim(t, nodetest.Known(t, a.Node, nil).ID, func(w http.ResponseWriter, r *http.Request) {
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
