package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/migrate-hpc/migrate/testenv"
	"golang.org/x/sys/unix"
)

// patience is far more than a demo needs on a slow machine.
const patience = 3 * time.Minute

func TestDemoHoldsAndLeavesNothingBehind(t *testing.T) {
	r := start(t, "")
	if code := r.wait(t); code != 0 {
		t.Fatalf("status %d:\n%s", code, r)
	}
	out := r.String()
	for _, want := range []string{"0 missing, 0 twice", "0 times back", "32 MiB compared", "node-a > node-b", "node-b > node-a", "downtime"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing", want)
		}
	}
	if strings.ContainsAny(out, "\x1b\r") {
		t.Error("there are escapes for a terminal, and there is none")
	}
	if t.Failed() {
		t.Log(out)
	}
	r.leavesNothing(t)
}

func TestDemoInterruptedLeavesNothingBehind(t *testing.T) {
	for _, c := range []struct {
		when, text string
		sig        unix.Signal
	}{
		{"at the start", "1. Two nodes", unix.SIGINT},
		{"while the job is started", "2. A job on", unix.SIGINT},
		{"while the job runs", "memory compared", unix.SIGTERM},
		{"before a move", "3. Move it", unix.SIGINT},
		{"after a move", "downtime", unix.SIGHUP},
	} {
		t.Run(c.when, func(t *testing.T) {
			r := start(t, c.text)
			r.await(t)
			if err := r.cmd.Process.Signal(c.sig); err != nil {
				t.Fatal(err)
			}
			if code := r.wait(t); code != 130 {
				t.Errorf("status %d:\n%s", code, r)
			}
			r.leavesNothing(t)
		})
	}
}

func TestDemoWithoutAReaderLeavesNothingBehind(t *testing.T) {
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer write.Close()
	cmd := command(t)
	cmd.Stdout = write
	r := run(t, cmd, "")
	if _, err := read.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if err := read.Close(); err != nil {
		t.Fatal(err)
	}
	if code := r.wait(t); code != 130 {
		t.Errorf("status %d: %s", code, r)
	}
	r.leavesNothing(t)
}

func TestDemoUsageErrorsTouchNothing(t *testing.T) {
	for _, args := range [][]string{{"--memory", "0"}, {"--memory", "1000"}, {"--memory", "lots"}, {"--moves", "0"}, {"--moves", "21"}, {"now"}} {
		out, err := exec.CommandContext(t.Context(), binary(t), append([]string{"demo"}, args...)...).CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 2 {
			t.Errorf("demo %q: %v\n%s", args, err, out)
		}
	}
}

func TestDemoWithoutCRIUSaysWhatToType(t *testing.T) {
	if os.Geteuid() != 0 {
		testenv.Missing(t, "not root")
	}
	cmd := exec.CommandContext(t.Context(), binary(t), "demo")
	cmd.Env = append(os.Environ(), "MIGRATE_CRIU="+filepath.Join(t.TempDir(), "criu"))
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 || !bytes.Contains(out, []byte("make setup")) {
		t.Errorf("%v\n%s", err, out)
	}
}

// running is a demo under way, with what it has printed so far.
type running struct {
	cmd    *exec.Cmd
	text   string
	before []string      // cgroups of jobs that were there
	found  chan struct{} // closed when text was printed
	ended  chan struct{}

	mu      sync.Mutex
	printed bytes.Buffer
}

// start starts a small demo; await returns when it has printed text.
func start(t *testing.T, text string) *running {
	t.Helper()
	return run(t, command(t), text)
}

func command(t *testing.T) *exec.Cmd {
	t.Helper()
	prerequisites(t)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, binary(t), "demo", "--memory", "32M")
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) } // it cleans up
	return cmd
}

func run(t *testing.T, cmd *exec.Cmd, text string) *running {
	t.Helper()
	r := &running{cmd: cmd, text: text, before: cgroups(t), found: make(chan struct{}), ended: make(chan struct{})}
	cmd.Stderr = r
	if cmd.Stdout == nil {
		cmd.Stdout = r
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(r.ended)
		_ = cmd.Wait() // the status is asked for by wait
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(unix.SIGTERM)
		<-r.ended
	})
	return r
}

// Write implements io.Writer.
func (r *running) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.text != "" && strings.Contains(r.printed.String(), r.text)
	r.printed.Write(p)
	if !before && r.text != "" && strings.Contains(r.printed.String(), r.text) {
		close(r.found)
	}
	return len(p), nil
}

func (r *running) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.printed.String()
}

func (r *running) await(t *testing.T) {
	t.Helper()
	select {
	case <-r.found:
	case <-r.ended:
		t.Fatalf("it ended before it printed %q:\n%s", r.text, r)
	}
}

func (r *running) wait(t *testing.T) int {
	t.Helper()
	<-r.ended
	return r.cmd.ProcessState.ExitCode()
}

// leavesNothing looks for whatever carries the demo's pid, and for cgroups of jobs that
// were not there before.
func (r *running) leavesNothing(t *testing.T) {
	t.Helper()
	mark := fmt.Sprintf("migrate-demo-%d-", r.cmd.Process.Pid)
	for _, dir := range []string{os.TempDir(), "/dev/shm"} {
		left, err := filepath.Glob(filepath.Join(dir, mark+"*"))
		if err != nil || len(left) > 0 {
			t.Errorf("left behind: %q, error %v", left, err)
		}
	}
	for _, p := range processes(t, mark) {
		t.Errorf("left behind: process %s", p)
	}
	for _, dir := range cgroups(t) {
		if !slices.Contains(r.before, dir) {
			t.Errorf("left behind: cgroup %s", dir)
		}
	}
	if t.Failed() {
		t.Log(r)
	}
}

// processes lists those with mark in their command line.
func processes(t *testing.T, mark string) (found []string) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if data, err := os.ReadFile(f); err == nil && bytes.Contains(data, []byte(mark)) {
			found = append(found, f+": "+string(bytes.ReplaceAll(data, []byte{0}, []byte{' '})))
		}
	}
	return found
}

// cgroups lists those of jobs on a demo's nodes.
func cgroups(t *testing.T) (found []string) {
	t.Helper()
	err := filepath.WalkDir("/sys/fs/cgroup", func(path string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
			return nil // another process, gone in this moment
		}
		if err == nil && e.IsDir() && (strings.HasPrefix(e.Name(), "migrate-node-a-") || strings.HasPrefix(e.Name(), "migrate-node-b-")) {
			found = append(found, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
