//go:build faults

package failpoint

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// plan writes a plan and returns a way to write another one.
func plan(t *testing.T, text string) (path string, replace func(string)) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "plan")
	t.Setenv("MIGRATE_FAULTS", path)
	replace = func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	replace(text)
	return path, replace
}

func hits(t *testing.T, path string) []string {
	t.Helper()
	data, err := os.ReadFile(path + ".hits")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(data)), "\n")
}

func TestAFaultTakesPlaceTheNthTimeAndOnlyThere(t *testing.T) {
	path, replace := plan(t, "sync.*.journal 2 eio\nwrite.record.json 2+ enospc\nbad line\n[ 1 eio\n")
	for i, want := range []error{nil, syscall.EIO, nil} {
		if err := Fail("sync", "/a/b/m1.journal"); !errors.Is(err, want) {
			t.Errorf("sync %d: %v, want %v", i, err, want)
		}
		if err := Fail("sync", "/a/b/other"); err != nil {
			t.Error(err)
		}
	}
	for i, want := range []error{nil, syscall.ENOSPC, syscall.ENOSPC} {
		if err := Fail("write", "x/record.json"); !errors.Is(err, want) {
			t.Errorf("write %d: %v, want %v", i, err, want)
		}
	}
	if got := hits(t, path); len(got) != 3 || !strings.HasPrefix(got[0], "sync.m1.journal eio ") {
		t.Errorf("hits: %q", got)
	}
	replace("sync.*.journal 2 eio\n")
	if err := Fail("sync", "m1.journal"); err != nil {
		t.Errorf("what was counted for another plan counts: %v", err)
	}
	if err := Fail("sync", "m1.journal"); !errors.Is(err, syscall.EIO) {
		t.Error(err)
	}
}

func TestWithoutAPlanNothingHappens(t *testing.T) {
	t.Setenv("MIGRATE_FAULTS", filepath.Join(t.TempDir(), "missing"))
	if err := Fail("sync", "x"); err != nil {
		t.Error(err)
	}
}

func TestAPauseLastsUntilItsLineIsTakenOut(t *testing.T) {
	path, replace := plan(t, "after.source.frozen 1 pause\nx 1 eio")
	passed := make(chan struct{})
	go func() {
		Point("after", "source", "frozen")
		close(passed)
	}()
	for end := time.Now().Add(time.Minute); len(hits(t, path)[0]) == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the point was never reached")
		}
	}
	select {
	case <-passed:
		t.Fatal("it does not wait")
	default:
	}
	replace("x 1 eio")
	<-passed
}

func TestKillEndsTheProcessAsACrashDoes(t *testing.T) {
	if os.Getenv("FAULT_VICTIM") != "" {
		Point("here")
		os.Exit(0)
	}
	plan(t, "here 1 kill")
	cmd := exec.Command(os.Args[0], "-test.run", t.Name())
	cmd.Env = append(os.Environ(), "FAULT_VICTIM=1")
	_ = cmd.Run() // judged by its status
	if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || ws.Signal() != syscall.SIGKILL {
		t.Errorf("it ended with %v", cmd.ProcessState)
	}
}
