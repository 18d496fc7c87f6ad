package cgroup

import (
	"errors"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/migrate-hpc/migrate/testenv"
)

func TestKillsForWantOfMemoryAreReadAsEachVersionTellsThem(t *testing.T) {
	for name, c := range map[string]struct {
		hierarchy, file, text string
		want                  int64
		fails                 bool
	}{
		"version 1":                    {"memory", "memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n", 3, false},
		"version 2":                    {Unified, "memory.events", "low 0\nhigh 0\nmax 9\noom 2\noom_kill 1\noom_group_kill 0\n", 1, false},
		"version 2 without controller": {Unified, "", "", 0, false},
		"version 1 without controller": {"freezer", "", "", 0, false},
		"a kernel that does not count": {"memory", "memory.oom_control", "oom_kill_disable 0\nunder_oom 0\n", 0, true},
		"no number":                    {"memory", "memory.oom_control", "oom_kill many\n", 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			cg := fakeCgroup(t, c.hierarchy)
			if c.file != "" {
				write(t, filepath.Join(cg.Dirs[c.hierarchy], c.file), c.text)
			}
			got, err := cg.OOMKills()
			if got != c.want || (err != nil) != c.fails {
				t.Errorf("got %d, %v", got, err)
			}
		})
	}
}

func TestAProcessThatExceedsItsMemoryIsCounted(t *testing.T) {
	testenv.NeedRoot(t)
	cg := newCgroup(t)
	if err := cg.Limit(Limits{MemoryBytes: 16 << 20}); err != nil {
		testenv.Missing(t, "no limit of memory: %v", err)
	}
	if n, err := cg.OOMKills(); n != 0 || err != nil {
		t.Fatalf("before: %d, %v", n, err)
	}
	cmd := exec.Command("/bin/sh", "-c", "read go; exec tail /dev/zero")
	begin, err := cmd.StdinPipe()
	if err == nil {
		err = errors.Join(cmd.Start(), cg.Enter(cmd.Process.Pid))
	}
	if err != nil {
		t.Fatal(err)
	}
	_, err = begin.Write([]byte("go\n"))
	var ended *exec.ExitError
	if waitErr := cmd.Wait(); err != nil || !errors.As(waitErr, &ended) {
		t.Fatal(err, waitErr)
	}
	if n, err := cg.OOMKills(); n == 0 || err != nil {
		t.Errorf("after: %d, %v", n, err)
	}
}
