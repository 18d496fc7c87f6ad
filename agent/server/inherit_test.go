package server

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/caller"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/testenv"
)

func TestLimitThatIsRefusedStartsNothing(t *testing.T) {
	a, user := newAgent(t), caller.Caller{UID: 1000, GID: 1000, Pid: testenv.LowLimits(t)}
	body, err := json.Marshal(api.RunRequest{Spec: job.Spec{Args: []string{"true"}, Rlimits: []job.Rlimit{{Name: "nofile", Soft: 1, Hard: 200}}}})
	if err != nil {
		t.Fatal(err)
	}
	w := answer(a, user, httptest.NewRequest("POST", "/v1/jobs", strings.NewReader(string(body))))
	if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), "nofile") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if recs, err := a.Jobs.List(); err != nil || len(recs) > 0 {
		t.Errorf("%v is known (%v)", recs, err)
	}
	if left, err := os.ReadDir(a.Config.RunDir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v (%v)", left, err)
	}
}
