package watch

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	pageSize = 4096
	pages    = 2000
)

func TestMain(m *testing.M) {
	if uid := os.Getenv("WATCH_TEST_CHILD"); uid != "" {
		child(uid)
		return
	}
	os.Exit(m.Run())
}

// child does what it is told, a word per line, and answers each with a line.
func child(uid string) {
	if n, err := strconv.Atoi(uid); err != nil || syscall.Setuid(n) != nil {
		panic("uid " + uid)
	}
	memory, err := unix.Mmap(-1, 0, pages*pageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		panic(err)
	}
	for i := range pages {
		memory[i*pageSize] = 1
	}
	start := uint64(uintptr(unsafe.Pointer(&memory[0])))
	fmt.Printf("%#x\n", start)
	var turns atomic.Int64
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		var word string
		var n, to int
		_, _ = fmt.Sscan(in.Text(), &word, &n, &to)
		switch word {
		case "write":
			memory[n*pageSize]++
		case "move":
			if err := move(start+uint64(n*pageSize), start+uint64(to*pageSize), pageSize); err != nil {
				panic(err)
			}
		case "threads":
			for range n {
				go busy(&turns)
			}
		case "turns":
			fmt.Println(turns.Load())
			continue
		case "filter":
			refuseNothing()
		}
		fmt.Println("done")
	}
}

// busy sleeps in system calls that a stop interrupts, on a thread of its own, and
// ends the process if one of them fails.
func busy(turns *atomic.Int64) {
	runtime.LockOSThread()
	var p [2]int
	if err := unix.Pipe(p[:]); err != nil {
		panic(err)
	}
	b := []byte{0}
	for {
		go func() {
			time.Sleep(200 * time.Microsecond)
			_, _ = unix.Write(p[1], b)
		}()
		if n, _, errno := syscall.Syscall(unix.SYS_READ, uintptr(p[0]), uintptr(unsafe.Pointer(&b[0])), 1); errno != 0 || n != 1 {
			fmt.Println("read:", n, errno)
			os.Exit(3)
		}
		turns.Add(1)
	}
}

// refuseNothing installs a seccomp filter that allows everything, on all threads.
func refuseNothing() {
	allow := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: 0x7fff0000}}
	prog := unix.SockFprog{Len: 1, Filter: &allow[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		panic(err)
	}
	if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, 1, 1, uintptr(unsafe.Pointer(&prog))); errno != 0 {
		panic(errno)
	}
}

type process struct {
	t     *testing.T
	pid   int
	start uint64
	in    io.Writer
	out   *bufio.Scanner
}

func launch(t *testing.T, uid int) *process {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("watching other processes needs root")
	}
	if err := Supported(); errors.Is(err, ErrCannot) {
		t.Skip(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{fmt.Sprintf("WATCH_TEST_CHILD=%d", uid)}
	cmd.Stderr = os.Stderr
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed
	})
	p := &process{t: t, pid: cmd.Process.Pid, in: in, out: bufio.NewScanner(out)}
	if _, err := fmt.Sscanf(p.line(), "0x%x", &p.start); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *process) line() string {
	p.t.Helper()
	if !p.out.Scan() {
		p.t.Fatalf("the child is gone: %v", p.out.Err())
	}
	return p.out.Text()
}

func (p *process) tell(format string, args ...any) string {
	p.t.Helper()
	if _, err := fmt.Fprintf(p.in, format+"\n", args...); err != nil {
		p.t.Fatal(err)
	}
	return p.line()
}

func (p *process) end() uint64 { return p.start + pages*pageSize }

func (p *process) attach() *Watch {
	p.t.Helper()
	w, err := Attach(p.pid)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = w.Close() })
	return w
}

// written are the numbers of the pages that were.
func (p *process) written(w *Watch) (numbers []int) {
	p.t.Helper()
	found, err := w.Written(nil, p.start, p.end())
	if err != nil {
		p.t.Fatal(err)
	}
	for _, r := range found {
		for at := r.Start; at < r.End; at += pageSize {
			numbers = append(numbers, int((at-p.start)/pageSize))
		}
	}
	return numbers
}

func TestWhatAProcessWritesIsFoundOnce(t *testing.T) {
	for _, uid := range []int{0, 65534} {
		p := launch(t, uid)
		w := p.attach()
		if n := len(p.written(w)); n != pages {
			t.Errorf("at first %d pages count as written, want all %d", n, pages)
		}
		for _, n := range []int{0, 7, 8, 1999} {
			p.tell("write %d", n)
		}
		if got := fmt.Sprint(p.written(w)); got != "[0 7 8 1999]" {
			t.Errorf("uid %d: written %s", uid, got)
		}
		if got := p.written(w); len(got) != 0 {
			t.Errorf("uid %d: written once more %v", uid, got)
		}
	}
}

func TestScatteredPagesNeedMoreThanOneCall(t *testing.T) {
	p := launch(t, 0)
	w := p.attach()
	w.regions = make([]pageRegion, 10)
	p.written(w)
	var want []int
	for n := 0; n < pages; n += 20 {
		p.tell("write %d", n)
		want = append(want, n)
	}
	if got := p.written(w); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("found %v", got)
	}
}

func TestAPageThatMovedCountsAsWritten(t *testing.T) {
	p := launch(t, 0)
	w := p.attach()
	p.written(w)
	p.tell("move 5 100")
	if got := p.written(w); !slices.Contains(got, 100) {
		t.Errorf("written %v", got)
	}
	if got := p.written(w); len(got) != 0 {
		t.Errorf("written once more %v", got)
	}
}

func TestAProcessDoesNotNoticeThatItIsWatched(t *testing.T) {
	p := launch(t, 65534)
	p.tell("threads 40")
	for range 30 {
		w, err := Attach(p.pid)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	var first, later int
	_, _ = fmt.Sscan(p.tell("turns"), &first)
	for end := time.Now().Add(10 * time.Second); later <= first; {
		if time.Now().After(end) {
			t.Fatal("its threads do not run any more")
		}
		_, _ = fmt.Sscan(p.tell("turns"), &later)
	}
	if after := descriptors(t, p.pid); strings.Contains(after, "userfaultfd") {
		t.Errorf("it is left with\n%s", after)
	}
}

func descriptors(t *testing.T, pid int) string {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for _, e := range list {
		to, _ := os.Readlink(dir + "/" + e.Name())
		fmt.Fprintln(&out, e.Name(), to)
	}
	return out.String()
}

func TestAProcessThatMightTakeHarmIsLeftAlone(t *testing.T) {
	filtered := launch(t, 0)
	filtered.tell("filter")
	stopped := launch(t, 0)
	if err := unix.Kill(stopped.pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	var info unix.Siginfo
	if err := unix.Waitid(unix.P_PID, stopped.pid, &info, unix.WSTOPPED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	for what, pid := range map[string]int{"filter": filtered.pid, "stop": stopped.pid} {
		if _, err := Attach(pid); !errors.Is(err, ErrCannot) || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: the error is %v", what, err)
		}
	}
	if _, err := Attach(1 << 22); err == nil {
		t.Error("a process that does not exist was watched")
	}
}

func TestTheWatchEndsWithTheProcess(t *testing.T) {
	p := launch(t, 0)
	w := p.attach()
	if err := unix.Kill(p.pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	var info unix.Siginfo
	if err := unix.Waitid(unix.P_PID, p.pid, &info, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Written(nil, p.start, p.end()); !errors.Is(err, ErrCannot) {
		t.Errorf("the error is %v", err)
	}
}

func TestAProcessThatHardlyGetsAProcessorSurvives(t *testing.T) {
	p := launch(t, 65534)
	const idle = 5 // SCHED_IDLE, sched(7)
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", p.pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, tid := range threads {
		n, err := strconv.Atoi(tid.Name())
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.SchedSetAttr(n, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: idle}, 0); err != nil {
			t.Fatal(err)
		}
	}
	var done atomic.Bool
	var hogs sync.WaitGroup
	for range 2 * runtime.NumCPU() {
		hogs.Go(func() {
			for !done.Load() {
			}
		})
	}
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); {
		w, err := Attach(p.pid)
		if errors.Is(err, ErrCannot) {
			continue // it did not stop in time
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	done.Store(true)
	hogs.Wait()
	if after := descriptors(t, p.pid); strings.Contains(after, "userfaultfd") {
		t.Errorf("it is left with\n%s", after)
	}
	p.tell("turns")
}
