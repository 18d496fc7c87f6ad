package server

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/caller"
	"github.com/migrate-hpc/migrate/agent/httpjson"
	"github.com/migrate-hpc/migrate/agent/launch"
	"github.com/migrate-hpc/migrate/agent/node/nodetest"
	"github.com/migrate-hpc/migrate/job"
)

// poor is a process whose hard limits are low, and who asks from it.
func poor(t *testing.T, uid uint32) caller.Caller {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", "ulimit -n 100; ulimit -c 0; echo; exec sleep 1000")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	return caller.Caller{UID: uid, GID: uid, Pid: cmd.Process.Pid}
}

func TestAUserNamesNoHardLimitAboveTheirOwn(t *testing.T) {
	user := poor(t, 1000)
	for _, c := range []struct {
		limit job.Rlimit
		says  []string // nil: allowed
	}{
		{job.Rlimit{Name: "nofile", Soft: 10, Hard: 100}, nil},
		{job.Rlimit{Name: "nofile", Soft: 10, Hard: 101}, []string{"nofile", "101", "100"}},
		{job.Rlimit{Name: "nofile", Soft: 10, Hard: job.Unlimited}, []string{"nofile", "unlimited", "100"}},
		{job.Rlimit{Name: "core", Soft: 0, Hard: 0}, nil},
		{job.Rlimit{Name: "core", Soft: 0, Hard: 1}, []string{"core", "1", "0"}},
	} {
		s := job.Spec{Rlimits: []job.Rlimit{c.limit}}
		err := launch.Inherit(&s, user)
		if (err == nil) != (c.says == nil) || err != nil && nodetest.CodeOf(err) != api.CodeUsage {
			t.Errorf("%+v: %v", c.limit, err)
			continue
		}
		for _, word := range c.says {
			if e := httpjson.ErrorOf(err); !strings.Contains(e.Message, word) || !strings.Contains(e.Hint, "--ulimit "+c.limit.Name) {
				t.Errorf("%+v: %q is missing in %+v", c.limit, word, e)
			}
		}
		root := job.Spec{Rlimits: []job.Rlimit{c.limit}}
		if err := launch.Inherit(&root, poor(t, 0)); err != nil {
			t.Errorf("root is refused %+v: %v", c.limit, err)
		}
	}
}

func TestALimitThatIsRefusedStartsNothing(t *testing.T) {
	a, user := newAgent(t), poor(t, 1000)
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
