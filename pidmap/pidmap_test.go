package pidmap

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/migrate-hpc/migrate/testenv"
)

const (
	roleEnv = "PIDMAP_TEST_ROLE"
	oddName = "a b\n\\n:\t"
)

// As a child the test binary plays a role in a job. It says "ready" with its pid as it
// sees it itself, and waits for its input to end.
func TestMain(m *testing.M) {
	role := os.Getenv(roleEnv)
	if role == "" {
		os.Exit(m.Run())
	}
	if err := play(role); err != nil {
		fmt.Fprintln(os.Stderr, role, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func play(role string) error {
	switch role {
	case "init": // PID 1: a plain child, a nested namespace with a child of its own, a zombie
		plain, err := start("threads", 0)
		if err != nil {
			return err
		}
		nested, err := start("nested-init", syscall.CLONE_NEWPID)
		if err != nil {
			return err
		}
		zombie, err := start("quit", 0)
		if err != nil {
			return err
		}
		// Its end of the pipe closes when it has ended: it is a zombie then, or at once after.
		if _, err := io.Copy(io.Discard, zombie.out); err != nil {
			return err
		}
		fmt.Println("plain", plain.self, "nested", nested.self, "zombie", zombie.self)
	case "nested-init":
		if _, err := start("threads", 0); err != nil {
			return err
		}
	case "threads":
		stop := make(chan struct{})
		for range 3 {
			up := make(chan struct{})
			go func() { runtime.LockOSThread(); close(up); <-stop }()
			<-up
		}
	case "quit":
		fmt.Println("ready", os.Getpid())
		return nil
	case "name":
		if err := os.WriteFile("/proc/self/comm", []byte(oddName), 0); err != nil {
			return err
		}
	}
	fmt.Println("ready", os.Getpid())
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

type process struct {
	host  int // pid as its parent sees it
	self  int // pid as it sees it
	out   *bufio.Reader
	lines []string // what it said before it was ready
	cmd   *exec.Cmd
}

// start runs a role. The input is inherited, so that all end with the first.
func start(role string, flags uintptr) (*process, error) {
	return startWith(role, flags, os.Stdin)
}

func startWith(role string, flags uintptr, in *os.File) (*process, error) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleEnv+"="+role)
	cmd.Stderr, cmd.Stdin = os.Stderr, in
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{host: cmd.Process.Pid, out: bufio.NewReader(out), cmd: cmd}
	for {
		line, err := p.out.ReadString('\n')
		if err != nil {
			return nil, fmt.Errorf("%s never got ready: %w", role, err)
		}
		if _, err := fmt.Sscanf(line, "ready %d", &p.self); err == nil {
			return p, nil
		}
		p.lines = append(p.lines, line)
	}
}

// launch runs a role until the test ends.
func launch(t *testing.T, role string, flags uintptr) *process {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p, err := startWith(role, flags, r)
	if err := errors.Join(err, r.Close()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(w.Close(), p.cmd.Wait()); err != nil {
			t.Error(err)
		}
	})
	return p
}

// find picks the processes of a job that have a pid in it.
func find(t *testing.T, entries []Entry, job int) Entry {
	t.Helper()
	i := slices.IndexFunc(entries, func(e Entry) bool { return e.Job == job })
	if i < 0 {
		t.Fatalf("no process %d in %+v", job, entries)
	}
	return entries[i]
}

func TestAJobsTreeIsSeenWithBothPids(t *testing.T) {
	testenv.NeedRoot(t)
	init := launch(t, "init", syscall.CLONE_NEWPID)
	var plain, nested, zombie int
	if _, err := fmt.Sscanf(strings.Join(init.lines, ""), "plain %d nested %d zombie %d", &plain, &nested, &zombie); err != nil {
		t.Fatal(err)
	}
	entries := untilZombie(t, init.host, zombie)
	if len(entries) != 5 {
		t.Errorf("%d processes, want init, plain, nested and its child, zombie: %+v", len(entries), entries)
	}
	if e := find(t, entries, 1); e.Host != init.host || e.PPid != os.Getpid() {
		t.Errorf("init is %+v, want pid %d and parent %d here", e, init.host, os.Getpid())
	}
	checkThreads(t, find(t, entries, plain))
	inner := slices.IndexFunc(entries, func(e Entry) bool { return e.Job != 1 && ownPid(t, e.Host) == 1 })
	if inner < 0 {
		t.Fatalf("no nested init in %+v", entries)
	}
	if nested != 1 {
		t.Errorf("the nested init sees itself as %d, want 1", nested)
	}
	child := slices.IndexFunc(entries, func(e Entry) bool { return e.PPid == entries[inner].Host })
	if child < 0 {
		t.Fatalf("the nested namespace's child is missing in %+v", entries)
	}
	checkThreads(t, entries[child])
	if own := ownPid(t, entries[child].Host); own == entries[child].Job {
		t.Errorf("the nested child's pid in the job, %d, is that in its own namespace", own)
	}
}

// untilZombie looks again until the process that has closed its output has also ended.
func untilZombie(t *testing.T, init, job int) []Entry {
	t.Helper()
	for range 1000 {
		entries, err := InNamespace(init)
		if err != nil {
			t.Fatal(err)
		}
		if e := find(t, entries, job); e.Zombie() {
			if len(e.Threads) != 1 || e.Threads[0] != (Thread{e.Host, e.Job}) {
				t.Errorf("the zombie's threads are %+v", e.Threads)
			}
			return entries
		}
		runtime.Gosched()
	}
	t.Fatal("the process that ended never became a zombie")
	return nil
}

// ownPid is the pid of a process in its own, innermost namespace.
func ownPid(t *testing.T, pid int) int {
	t.Helper()
	dir, err := openProc(pid)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.close()
	st, err := dir.status("status")
	if err != nil {
		t.Fatal(err)
	}
	return st.nspid[len(st.nspid)-1]
}

func checkThreads(t *testing.T, e Entry) {
	t.Helper()
	if len(e.Threads) < 4 {
		t.Errorf("%d threads, want the main one and 3 locked ones at least: %+v", len(e.Threads), e)
	}
	if e.Zombie() {
		t.Errorf("a living process counts as a zombie: %+v", e)
	}
	if !slices.Contains(e.Threads, Thread{e.Host, e.Job}) {
		t.Errorf("the main thread is missing in %+v", e)
	}
	seen := map[int]bool{}
	for _, thread := range e.Threads {
		if seen[thread.Job] || thread.Job == 0 {
			t.Errorf("thread ids in the job are not distinct: %+v", e)
		}
		seen[thread.Job] = true
	}
}

func TestGoneProcessesAreLeftOutAndOutsidersAreNamed(t *testing.T) {
	testenv.NeedRoot(t)
	init := launch(t, "threads", syscall.CLONE_NEWPID)
	pidns, err := Namespace(init.host)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := Of([]int{init.host, 1 << 30, os.Getpid()}, pidns)
	if !errors.Is(err, ErrOutside) || !strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) {
		t.Errorf("the error is %v, want ErrOutside for this process", err)
	}
	if len(entries) != 1 || entries[0].Host != init.host || entries[0].Job != 1 {
		t.Errorf("got %+v, want only pid %d as 1", entries, init.host)
	}
}

func TestTheCallersOwnNamespaceIsAJobToo(t *testing.T) {
	pidns, err := Namespace(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	entries, err := Of([]int{os.Getpid()}, pidns)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 || entries[0].Job != os.Getpid() || entries[0].PPid != os.Getppid() {
		t.Errorf("got %+v, want this process under its own pid", entries)
	}
}

func TestANameCannotForgeALine(t *testing.T) {
	p := launch(t, "name", 0)
	pidns, err := Namespace(p.host)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := Of([]int{p.host}, pidns)
	if err != nil || len(entries) != 1 {
		t.Fatal(entries, err)
	}
	if entries[0].Comm != oddName {
		t.Errorf("the name is %q, want %q", entries[0].Comm, oddName)
	}
}

func FuzzParseStatus(f *testing.F) {
	f.Add("Name:\tcat\nState:\tR (running)\nPPid:\t1\nNSpid:\t10\t1\n")
	f.Fuzz(func(t *testing.T, text string) {
		st, err := parseStatus(text)
		if err == nil && len(st.nspid) == 0 {
			t.Errorf("%q was accepted without a pid", text)
		}
	})
}

func TestVisitorsAreThoseWhomPID1DoesNotDescendTo(t *testing.T) {
	one := []Thread{{}}
	all := []Entry{
		{Host: 100, Job: 1, PPid: 50, State: 'S', Threads: one},
		{Host: 101, Job: 2, PPid: 100, State: 'S', Threads: one},
		{Host: 102, Job: 3, PPid: 101, State: 'Z', Threads: one},
		{Host: 103, Job: 4, PPid: 60, State: 'S', Threads: one},
		{Host: 104, Job: 5, PPid: 103, State: 'S', Threads: one}, // of the visitor's
		{Host: 105, Job: 6, PPid: 60, State: 'Z', Threads: one},
		{Host: 106, Job: 7, PPid: 0, State: 'S', Threads: one}, // whose parent cannot be seen from here
	}
	var got []int
	for _, v := range Visitors(all) {
		got = append(got, v.Host)
	}
	if !slices.Equal(got, []int{103, 106}) {
		t.Errorf("visitors %v", got)
	}
}
