package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/migrate-hpc/migrate/testenv"
)

// byLoader starts a sleeping process as scripts/setup has CRIU started: by the loader, of
// which it has its name.
func byLoader(t *testing.T) *exec.Cmd {
	t.Helper()
	loaders, err := filepath.Glob("/lib*/ld-linux-*.so.*")
	if err != nil {
		t.Fatal(err)
	}
	sleep, err := exec.LookPath("sleep")
	if err != nil || len(loaders) == 0 {
		testenv.Missing(t, "no loader among %v for sleep (%v)", loaders, err)
	}
	cmd := exec.Command(loaders[0], sleep, "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have been reaped
		_ = cmd.Wait()
	})
	return cmd
}

func (f pidFile) note(t *testing.T, pid int) {
	t.Helper()
	if err := f.record(pid); err != nil {
		t.Fatal(err)
	}
}

func TestThawWaitsForTheDumpThatWasNotedAndForNoOther(t *testing.T) {
	f, job := (&Source{Dir: t.TempDir()}).dumpPID(), &Processes{}
	if err := f.await(testenv.Bounded(t), job); err != nil {
		t.Errorf("none noted: %v", err)
	}
	dead := byLoader(t)
	f.note(t, dead.Process.Pid)
	note, err := os.ReadFile(string(f))
	if err != nil {
		t.Fatal(err)
	}
	if err := dead.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := f.await(testenv.Bounded(t), job); err != nil {
		t.Errorf("not reaped yet: %v", err)
	}
	_ = dead.Wait() // killed
	if err := f.await(testenv.Bounded(t), job); err != nil {
		t.Errorf("ended: %v", err)
	}
	f.note(t, dead.Process.Pid)
	if now, err := os.ReadFile(string(f)); err != nil || string(now) != string(note) {
		t.Errorf("one that had ended was noted: %q, %v", now, err)
	}
	// A number that is another's by now, and notes that a crash cut short.
	for _, text := range []string{fmt.Sprint(os.Getpid(), 1), fmt.Sprint(os.Getpid()), "", "\n", "../../etc"} {
		if err := os.WriteFile(string(f), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := f.await(testenv.Bounded(t), job); err != nil {
			t.Errorf("note %q: %v", text, err)
		}
	}
}

func TestALivingDumpHoldsUpTheThaw(t *testing.T) {
	f, job := (&Source{Dir: t.TempDir()}).dumpPID(), &Processes{}
	dump := byLoader(t)
	f.note(t, dump.Process.Pid)
	why := errors.New("no patience")
	ctx, cancel := context.WithTimeoutCause(context.Background(), 50*time.Millisecond, why)
	defer cancel()
	err := f.await(ctx, job)
	if !errors.Is(err, why) || !strings.Contains(err.Error(), strconv.Itoa(dump.Process.Pid)) {
		t.Fatalf("got %v", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- f.await(testenv.Bounded(t), job) }()
	if err := dump.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil { // a zombie holds nothing
		t.Error(err)
	}
}
