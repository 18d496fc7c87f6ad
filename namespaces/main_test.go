package namespaces

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/namespaces/cgroup"
	"github.com/migrate-hpc/migrate/procfs"
	"github.com/migrate-hpc/migrate/testenv"
)

// visitorRole makes the test binary an agent that runs one command in a job.
const visitorRole = "namespaces-test-visitor"

func TestMain(m *testing.M) {
	Stage()
	if len(os.Args) == 3 && os.Args[1] == visitorRole {
		os.Exit(playVisitor(os.Args[2]))
	}
	if len(os.Args) > 1 {
		playRole(os.Args[1:])
	}
	os.Exit(m.Run())
}

// playRole returns if the arguments name no role.
func playRole(args []string) {
	var err error
	switch args[0] {
	case attackRole:
		var pid int
		if pid, err = strconv.Atoi(args[1]); err == nil {
			err = attack(pid)
		}
	case starterRole:
		err = playStarter(args[1])
	case wrapRole:
		err = playWrap(args[1:])
	case keyRole:
		err = playKey()
	default:
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func playVisitor(description string) int {
	var v ExecSpec
	if err := json.Unmarshal([]byte(description), &v); err != nil {
		fmt.Println(err)
		return 125
	}
	code, err := Exec(context.Background(), v)
	if err != nil {
		fmt.Println(err)
	}
	return code
}

func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(testenv.Patience); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", testenv.Patience, what)
		}
	}
}

// inTime runs what could hang and fails the test if it does.
func inTime(t testing.TB, do func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		do()
	}()
	select {
	case <-done:
	case <-time.After(testenv.Patience):
		t.Fatalf("it hangs: no end within %v", testenv.Patience)
	}
}

// newCgroup makes a cgroup beneath the test's own and sees it removed.
func newCgroup(t testing.TB) *cgroup.Cgroup {
	t.Helper()
	testenv.NeedRoot(t)
	c, err := cgroup.New(os.Getpid(), fmt.Sprintf("migrate-test-%d-%d", os.Getpid(), time.Now().UnixNano()))
	if err != nil {
		testenv.Missing(t, "no cgroup can be made: %v", err)
	}
	t.Cleanup(func() { empty(t, c) })
	return c
}

func empty(t testing.TB, c *cgroup.Cgroup) {
	t.Helper()
	if err := c.Kill(testenv.Bounded(t)); err != nil {
		t.Error(err)
	}
	eventually(t, "cgroup removed", func() bool { return c.Remove() == nil })
}

// configuration is a job that runs a shell script on the node's root. The job's output appears in
// ioDir.
func configuration(t testing.TB, script string) (cfg Config, ioDir string) {
	t.Helper()
	testenv.NeedRoot(t)
	ioDir = testenv.OpenDir(t)
	return Config{
		Hostname: "claims", RootDir: t.TempDir(), Root: "/", IODir: ioDir, WorkDir: "/",
		Args: []string{"/bin/sh", "-c", script}, Env: []string{"PATH=/usr/bin:/bin"},
		Stdin: "/dev/null", Stdout: IOMount + "/stdout", Stderr: IOMount + "/stderr",
	}, ioDir
}

// run starts a job, waits for its end and returns its status and its output.
func run(t testing.TB, cfg Config, around StartEnv) (unix.WaitStatus, string) {
	t.Helper()
	p, err := Start(testenv.Bounded(t), cfg, around)
	if err != nil {
		t.Fatal(err)
	}
	ws, err := p.Wait()
	if err != nil {
		t.Fatal(err)
	}
	return ws, readFile(t, filepath.Join(cfg.IODir, "stdout"))
}

// started is a running job that ends with the test.
func started(t testing.TB, cfg Config, around StartEnv) int {
	t.Helper()
	p, err := Start(testenv.Bounded(t), cfg, around)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.kill() })
	return p.Pid
}

func readFile(t testing.TB, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return string(data)
}

// traces is what a failed start could leave behind: children, zombies among
// them, mounts and descriptors.
type traces struct {
	children []int
	mounts   int
	fds      int
}

func tracesNow(t testing.TB) traces {
	t.Helper()
	table, err := procfs.MountTable(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	mounts := 0 // of ours: others use the machine too
	for _, m := range table {
		if strings.HasPrefix(m.Target, os.TempDir()+"/") {
			mounts++
		}
	}
	return traces{childrenOf(t, os.Getpid()), mounts, len(fds)}
}

func (x traces) equal(y traces) bool {
	return slices.Equal(x.children, y.children) && x.mounts == y.mounts && x.fds == y.fds
}

func childrenOf(t testing.TB, parent int) (pids []int) {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile(filepath.Join("/proc", e.Name(), "stat"))
		if err != nil {
			continue // it has ended
		}
		rest := string(stat[strings.LastIndex(string(stat), ")")+1:])
		if f := strings.Fields(rest); len(f) > 1 && f[1] == strconv.Itoa(parent) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// lockedBuffer is the output of a command that is still running.
type lockedBuffer struct {
	lines chan string
}

func newLockedBuffer() *lockedBuffer { return &lockedBuffer{make(chan string, 100)} }

func (b *lockedBuffer) Write(p []byte) (int, error) {
	select {
	case b.lines <- string(p):
		return len(p), nil
	default:
		return 0, io.ErrShortWrite
	}
}

func (b *lockedBuffer) next(t testing.TB) string {
	t.Helper()
	select {
	case s := <-b.lines:
		return s
	case <-time.After(testenv.Patience):
		t.Fatal("the command says nothing")
		return ""
	}
}
