package criu

import (
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/testenv"
)

// realCRIU returns a client for the installed CRIU.
func realCRIU(t testing.TB) *Client {
	t.Helper()
	testenv.NeedRoot(t)
	path, err := Find("")
	if err != nil {
		testenv.Missing(t, "%v", err)
	}
	return New(path, t.TempDir(), quiet())
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func itoa(n int) string { return strconv.Itoa(n) }

// freezer is a freezer cgroup of its own, of either version.
type freezer struct {
	dir                       string
	file, frozen, thawed, ask string
}

func newFreezer(t testing.TB) freezer {
	t.Helper()
	f := freezer{file: "freezer.state", frozen: "FROZEN", thawed: "THAWED", ask: "freezer.state"}
	root := "/sys/fs/cgroup/freezer"
	if _, err := os.Stat(root); err != nil {
		root = "/sys/fs/cgroup"
		f.file, f.frozen, f.thawed, f.ask = "cgroup.freeze", "1", "0", "cgroup.events"
	}
	dir, err := os.MkdirTemp(root, "migrate-test-")
	if err != nil {
		testenv.Missing(t, "no cgroup can be made: %v", err)
	}
	f.dir = dir
	t.Cleanup(func() {
		eventually(t, "cgroup removed", func() bool { return os.Remove(dir) == nil })
	})
	return f
}

func (f freezer) write(t testing.TB, name, value string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(f.dir, name), []byte(value), 0); err != nil {
		t.Fatal(err)
	}
}

func (f freezer) isFrozen(t testing.TB) bool {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(f.dir, f.ask))
	if err != nil {
		t.Fatal(err)
	}
	return strings.HasPrefix(string(data), "FROZEN") || strings.Contains(string(data), "frozen 1")
}

func (f freezer) freeze(t testing.TB) {
	t.Helper()
	f.write(t, f.file, f.frozen)
	eventually(t, "cgroup frozen", func() bool { return f.isFrozen(t) })
}

func (f freezer) thaw(t testing.TB) {
	t.Helper()
	f.write(t, f.file, f.thawed)
}

// testJob is a running counter in namespaces of its own.
type testJob struct {
	pid    int
	root   string // a bind mount of the node's tree, which is the job's root
	cgroup freezer
}

// startJob starts the counter with some memory, as PID 1 and session leader of
// a pid namespace.
func startJob(t testing.TB, mib int) testJob {
	t.Helper()
	dir := t.TempDir()
	program, ready := filepath.Join(dir, "counter"), filepath.Join(dir, "ready")
	build := exec.Command("go", "build", "-o", program, "./testdata/counter")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the test's job: %v\n%s", err, out)
	}
	cgroup, root := newFreezer(t), bindRoot(t)
	cmd := exec.Command(program, "enter", root, itoa(mib), ready)
	cmd.Stderr = os.Stderr
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:   unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWNS,
		Unshareflags: unix.CLONE_NEWTIME,
		Setsid:       true,
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	j := testJob{pid: cmd.Process.Pid, root: root, cgroup: cgroup}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		cgroup.thaw(t)
		_ = cmd.Wait()
	})
	cgroup.write(t, "cgroup.procs", itoa(j.pid))
	eventually(t, "job has filled its memory", func() bool { _, err := os.Stat(ready); return err == nil })
	return j
}

// bindRoot binds the node's own tree to a new directory, without what is
// mounted in it.
func bindRoot(t testing.TB) string {
	t.Helper()
	root := t.TempDir()
	if err := unix.Mount("/", root, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(root, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	if err := unix.Mount("", root, "", unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	return root
}

// eventually polls until ok, with a deadline.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !ok() {
		if time.Now().After(deadline) {
			t.Errorf("not reached: %s", what)
			return
		}
		time.Sleep(time.Millisecond)
	}
}

func openDir(t testing.TB, dir string) *os.File {
	t.Helper()
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func asError(t testing.TB, err error) *Error {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want an *Error", err)
	}
	return e
}
