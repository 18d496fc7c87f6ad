package cgroup

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/migrate-hpc/migrate/testenv"
)

func TestAnAgentLeavesItsCgroupToTheJobs(t *testing.T) {
	testenv.NeedRoot(t) // the files are written without any permission
	for name, c := range map[string]struct{ files, controllers, procs, enabled string }{
		"in a cgroup of its own": {"cgroup.type", "cpuset cpu io memory pids\n", "7", "+cpu +memory +pids"},
		"at the root":            {"", "cpu memory\n", "", "+cpu +memory"},
		"without any controller": {"cgroup.type", "\n", "7", ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			leaf := filepath.Join(dir, agentDir)
			if c.files != "" {
				write(t, filepath.Join(dir, c.files), "domain\n")
			}
			write(t, filepath.Join(dir, "cgroup.controllers"), c.controllers)
			write(t, filepath.Join(dir, "cgroup.subtree_control"), "")
			if c.procs != "" {
				if err := os.Mkdir(leaf, 0o755); err != nil {
					t.Fatal(err)
				}
				write(t, filepath.Join(leaf, "cgroup.procs"), "")
			}
			for range 2 {
				if err := delegateIn(dir, 7); err != nil {
					t.Fatal(err)
				}
			}
			if got := readFile(t, filepath.Join(dir, "cgroup.subtree_control")); got != c.enabled {
				t.Errorf("handed down %q, want %q", got, c.enabled)
			}
			if c.procs == "" {
				if _, err := os.Stat(leaf); err == nil {
					t.Error("the root got a leaf")
				}
			} else if got := readFile(t, filepath.Join(leaf, "cgroup.procs")); got != c.procs {
				t.Errorf("the leaf holds %q, want %q", got, c.procs)
			}
		})
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestJobsGoBesideTheAgentAndBeneathEverybodyElse(t *testing.T) {
	for dir, want := range map[string]string{"/c/s/" + agentDir: "/c/s", "/c/s": "/c/s", "/c": "/c"} {
		if got := parentForJobs(dir); got != want {
			t.Errorf("%s: got %s, want %s", dir, got, want)
		}
	}
}
