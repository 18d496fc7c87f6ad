package server

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/caller"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/namespaces/cgroup"
	"github.com/migrate-hpc/migrate/shim"
	"github.com/migrate-hpc/migrate/testenv"
)

// testCgroup is one beside which jobs that are started get theirs.
func testCgroup(t *testing.T) *cgroup.Cgroup {
	t.Helper()
	testenv.NeedRoot(t)
	cg, err := cgroup.New(os.Getpid(), "migrate-test-"+string(job.NewID()))
	if err != nil {
		testenv.Missing(t, "no cgroup can be made: %v", err)
	}
	t.Cleanup(func() {
		if err := cg.Remove(); err != nil {
			t.Error(err)
		}
	})
	return cg
}

// leftBy are the files and cgroups of jobs on the node of an agent.
func (a *Server) leftBy(t *testing.T, beside *cgroup.Cgroup) (paths []string) {
	t.Helper()
	for _, pattern := range []string{a.Paths.JobRun("*"), a.Jobs.Dir("*"), filepath.Join(filepath.Dir(beside.Dir()), "migrate-"+a.Config.Node+"-*")} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, found...)
	}
	return paths
}

func TestAStartThatFailsIsToldAndLeavesNothing(t *testing.T) {
	a, beside := newAgent(t), testCgroup(t)
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
		inTime(t, func() {
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

func TestTheCgroupOfAStartGoesWithTheLastOfItsTasks(t *testing.T) {
	a, cg := newAgent(t), testCgroup(t)
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := cg.Enter(cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // nobody waits for what has been killed
	if err := a.Launcher.UndoStart(ctx, cg, shim.Config{RunDir: filepath.Join(a.Config.RunDir, "none")}); err == nil || !strings.Contains(err.Error(), "SIGKILL") {
		t.Errorf("got %v", err)
	}
	_ = cmd.Wait()
	inTime(t, a.Background.Wait)
	if _, err := os.Stat(cg.FreezerDir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the cgroup is still there: %v", err)
	}
}
