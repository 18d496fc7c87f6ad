package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/migrate-hpc/migrate/testenv"
)

func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(testenv.Patience); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", testenv.Patience, what)
		}
	}
}

func readFile(t testing.TB, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return string(data)
}

// newCgroup makes a cgroup beneath the test's own and sees it removed.
func newCgroup(t testing.TB) *Cgroup {
	t.Helper()
	testenv.NeedRoot(t)
	c, err := New(os.Getpid(), testName())
	if err != nil {
		testenv.Missing(t, "no cgroup can be made: %v", err)
	}
	t.Cleanup(func() { empty(t, c) })
	return c
}

// unifiedCgroup makes a cgroup of version 2 only, on a hybrid node too.
func unifiedCgroup(t testing.TB) *Cgroup {
	t.Helper()
	testenv.NeedRoot(t)
	dirs, err := Of(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if dirs[Unified] == "" {
		testenv.Missing(t, "this node has no cgroup version 2 mounted")
	}
	dir := filepath.Join(dirs[Unified], testName())
	if err := os.Mkdir(dir, 0o755); err != nil {
		testenv.Missing(t, "no version 2 cgroup can be made: %v", err)
	}
	c := &Cgroup{Dirs: map[string]string{Unified: filepath.Join(dir, tasksDir)}}
	if err := os.Mkdir(c.FreezerDir(), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { empty(t, c) })
	return c
}

func testName() string { return fmt.Sprintf("migrate-test-%d-%d", os.Getpid(), time.Now().UnixNano()) }

func empty(t testing.TB, c *Cgroup) {
	t.Helper()
	if err := c.Kill(testenv.Bounded(t)); err != nil {
		t.Error(err)
	}
	eventually(t, "cgroup removed", func() bool { return c.Remove() == nil })
}
