package oracle

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/migrate-hpc/migrate/testenv"
	"golang.org/x/sys/unix"
)

// output collects what a job prints.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

type job struct {
	cmd      *exec.Cmd
	out, err output
}

// run starts the oracle in pid and ipc namespaces of its own.
func run(t *testing.T, flags ...string) *job {
	t.Helper()
	testenv.NeedRoot(t)
	j := &job{cmd: exec.Command(Need(t), append(flags, "--dir", t.TempDir())...)}
	j.cmd.Stdout, j.cmd.Stderr = &j.out, &j.err
	j.cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC, Pdeathsig: syscall.SIGKILL}
	if err := j.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if j.cmd.ProcessState == nil {
			_ = j.cmd.Process.Kill()
			_ = j.cmd.Wait()
		}
	})
	return j
}

// until waits for a condition on what the job has printed.
func (j *job) until(t *testing.T, what string, ok func(Report) bool) Report {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		if r, _ := Judge(j.out.String()); ok(r) {
			return r
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("the job never got so far: %s; it said %s", what, j.err.String())
	return Report{}
}

func (j *job) exit(t *testing.T) int {
	t.Helper()
	late := time.AfterFunc(30*time.Second, func() { _ = j.cmd.Process.Kill() })
	defer late.Stop()
	err := j.cmd.Wait()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return j.cmd.ProcessState.ExitCode()
}

func ready(r Report) bool { return r.Ready && r.Ticks > 0 }

func TestAllModesTogetherCheckAndEndOnRequest(t *testing.T) {
	j := run(t, "--count", "--mem", "16", "--check", "64", "--dirty", "20", "--tree", "3", "--sysv", "--mqueue", "--locks",
		"--deleted", "--socket", "--tcp-listen", "0", "--shared", "2")
	r := j.until(t, "ready", ready)
	echo(t, r.IDs["port"])
	var idle []string
	for deadline := time.Now().Add(60 * time.Second); ; {
		before := len(j.until(t, "ticks", ready).States)
		if err := j.cmd.Process.Signal(unix.SIGUSR1); err != nil {
			t.Fatal(err)
		}
		r = j.until(t, "state", func(r Report) bool { return len(r.States) > before })
		idle = idle[:0]
		for kind, n := range r.States[before].Checks {
			if n == 0 {
				idle = append(idle, kind)
			}
		}
		if len(idle) == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("no check was ever made of %v", idle)
		}
	}
	if err := j.cmd.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := j.exit(t); code != 0 {
		t.Errorf("exit code %d, want 0: %s", code, j.err.String())
	}
	if r, err := Judge(j.out.String()); err != nil || !r.Bye || r.PID != 1 {
		t.Errorf("%+v, %v", r, err)
	}
}

func echo(t *testing.T, port int64) {
	t.Helper()
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	got := make([]byte, 5)
	if _, err := conn.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != "hello" {
		t.Errorf("the echo is %q, %v", got, err)
	}
}

func TestItEndsByItselfWithTheWantedCode(t *testing.T) {
	j := run(t, "--count", "--exit", "9")
	if code := j.exit(t); code != 9 {
		t.Errorf("exit code %d, want 9: %s", code, j.err.String())
	}
	if r, err := Judge(j.out.String()); err != nil || r.Ticks != 1 || !r.Bye {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestWrongFlagsAreRefused(t *testing.T) {
	for _, flags := range [][]string{{"--mem", "0"}, {"--tree", "many"}, {"--what"}, {"word"}} {
		if code := run(t, flags...).exit(t); code != 2 {
			t.Errorf("%v gave exit code %d, want 2", flags, code)
		}
	}
}

func TestDamageIsNoticed(t *testing.T) {
	for _, c := range []struct {
		kind   string
		code   int
		flags  []string
		damage func(*job) error
	}{
		{"mem", 33, []string{"--mem", "9", "--check", "1000"}, func(j *job) error { return flip(j.cmd.Process.Pid, 9<<20) }},
		{"hidden", 33, []string{"--mem", "9", "--check", "1000"}, func(j *job) error { return flip(j.cmd.Process.Pid, 64*4096) }},
		{"cow", 33, []string{"--tree", "1"}, func(j *job) error { return flip(j.child(t), 256*4096) }},
		{"ring", 33, []string{"--tree", "2"}, func(j *job) error { return unix.Kill(j.child(t), unix.SIGKILL) }},
	} {
		j := run(t, append(c.flags, "--count")...)
		j.until(t, "ready", ready)
		if err := c.damage(j); err != nil {
			t.Fatalf("%s: %v", c.kind, err)
		}
		if code := j.exit(t); code != c.code || !strings.Contains(j.err.String(), "ORACLE FAIL "+c.kind+" ") {
			t.Errorf("%s: exit code %d and %q", c.kind, code, j.err.String())
		}
	}
}

// child is the pid of the job's first child.
func (j *job) child(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", j.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Sscan(string(text), &pid); err != nil {
		t.Fatal(err)
	}
	return pid
}

// flip changes one bit in the middle of a process's memory area of that size.
func flip(pid int, size int64) error {
	at, err := area(pid, size)
	if err != nil {
		return err
	}
	mem, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer mem.Close()
	var b [1]byte
	if _, err := mem.ReadAt(b[:], at+size/2+17); err != nil {
		return err
	}
	b[0] ^= 4
	_, err = mem.WriteAt(b[:], at+size/2+17)
	return err
}

// area finds a private anonymous mapping by its size (8 MiB are the stacks of threads).
func area(pid int, size int64) (int64, error) {
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(maps)) {
		var from, to int64
		if _, err := fmt.Sscanf(line, "%x-%x", &from, &to); err != nil {
			return 0, err
		}
		if to-from == size && len(strings.Fields(line)) == 5 {
			return from, nil
		}
	}
	return 0, fmt.Errorf("no area of %d bytes in\n%s", size, maps)
}
