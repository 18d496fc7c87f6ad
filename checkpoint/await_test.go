package checkpoint

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// program starts a sleeping process under another name.
func program(t *testing.T, name string) *exec.Cmd {
	t.Helper()
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(sleep)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have been reaped
		_ = cmd.Wait()
	})
	return cmd
}

func TestThawWaitsForTheDumpThatWasNotedAndForNoOther(t *testing.T) {
	s := &Source{Dir: t.TempDir(), Log: quiet()}
	if err := s.awaitDump(bounded(t)); err != nil {
		t.Errorf("none noted: %v", err)
	}
	stranger := program(t, "stranger")
	dead := program(t, "criu")
	if err := dead.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = dead.Wait() // killed
	for name, pid := range map[string]int{"ended": dead.Process.Pid, "another's number by now": stranger.Process.Pid, "impossible": 1 << 30} {
		s.notePid(pid)
		if err := s.awaitDump(bounded(t)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, text := range []string{"", "\n", "../../etc"} { // a note that a crash cut short
		if err := os.WriteFile(s.pidFile(), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := s.awaitDump(bounded(t)); err != nil {
			t.Errorf("note %q: %v", text, err)
		}
	}
}

func TestALivingDumpHoldsUpTheThaw(t *testing.T) {
	s := &Source{Dir: t.TempDir(), Log: quiet()}
	dump := program(t, "criu")
	s.notePid(dump.Process.Pid)
	why := errors.New("no patience")
	ctx, cancel := context.WithTimeoutCause(context.Background(), 50*time.Millisecond, why)
	defer cancel()
	err := s.awaitDump(ctx)
	if !errors.Is(err, why) || !strings.Contains(err.Error(), strconv.Itoa(dump.Process.Pid)) {
		t.Fatalf("got %v", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.awaitDump(bounded(t)) }()
	if err := dump.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil { // a zombie holds nothing
		t.Error(err)
	}
}
