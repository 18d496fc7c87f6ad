package server

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/caller"
	"github.com/migrate-hpc/migrate/agent/node/nodetest"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/namespaces/cgroup"
	"github.com/migrate-hpc/migrate/testenv"
)

// leftBy are the files and cgroups of jobs on the node of an agent.
func (s *Server) leftBy(t *testing.T, beside *cgroup.Cgroup) (paths []string) {
	t.Helper()
	for _, pattern := range []string{s.Paths.JobRun("*"), s.Jobs.Dir("*"), filepath.Join(filepath.Dir(beside.Dir()), "migrate-"+s.Config.Node+"-*")} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, found...)
	}
	return paths
}

func TestStartThatFailsIsToldAndLeavesNothing(t *testing.T) {
	a, beside := newAgent(t), nodetest.Cgroup(t)
	before := a.leftBy(t, beside)
	dir := testenv.OpenDir(t)
	if err := unix.Mkfifo(filepath.Join(dir, "pipe"), 0o666); err != nil {
		t.Fatal(err)
	}
	const fifo = "/tmp/x/pipe: a FIFO cannot be a job's input or output"
	for _, c := range []struct {
		says string
		edit func(*job.Spec)
	}{
		{fifo, func(s *job.Spec) { s.Stdin = "/tmp/x/pipe" }},
		{fifo, func(s *job.Spec) { s.Stdout = "/tmp/x/pipe" }},
		{"/no/such/command", func(s *job.Spec) { s.Args = []string{"/no/such/command"} }},
		{"no-such-bridge", func(s *job.Spec) { s.Network = job.Network{Mode: "no-such-bridge", Address: "10.3.0.8/24"} }},
	} {
		s := job.Spec{Args: []string{"/bin/true"}, Binds: []job.Bind{{Source: dir, Target: "/tmp/x"}}}
		c.edit(&s)
		body, err := json.Marshal(api.RunRequest{Spec: s})
		if err != nil {
			t.Fatal(err)
		}
		testenv.InTime(t, func() {
			w := answer(a, caller.Caller{Pid: os.Getpid()}, httptest.NewRequest("POST", "/v1/jobs", strings.NewReader(string(body))))
			if w.Code == http.StatusOK || !strings.Contains(w.Body.String(), c.says) || !strings.Contains(w.Body.String(), "nothing was started") {
				t.Errorf("%s: %d %s", c.says, w.Code, w.Body)
			}
		})
		if left := a.leftBy(t, beside); !slices.Equal(left, before) {
			t.Errorf("%s: left behind: %v", c.says, left)
		}
	}
}
