package scan

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/pidmap"
	"github.com/migrate-hpc/migrate/stream"
	"github.com/migrate-hpc/migrate/testenv"
)

const (
	roleEnv = "PAGES_TEST_ROLE"
	// Every zeroEvery-th page that fill writes is zero.
	zeroEvery = 7
	mib       = 1 << 20
)

// As a child the test binary changes its memory as its role says. It says "ready" when the first
// change is done.
func TestMain(m *testing.M) {
	role, isChild := os.LookupEnv(roleEnv)
	if !isChild {
		os.Exit(m.Run())
	}
	play, ok := roles[role]
	if !ok {
		fmt.Fprintln(os.Stderr, "no role", role)
		os.Exit(1)
	}
	play(&child{in: bufio.NewReader(os.Stdin), random: rand.New(rand.NewPCG(1, 2))})
	os.Exit(0)
}

// child is what roles use. They end the process when something fails.
type child struct {
	in     *bufio.Reader
	random *rand.Rand
}

func (c *child) must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// ready says so and returns at once.
func (c *child) ready() { fmt.Println("ready") }

// await waits for the test to say go, or to end.
func (c *child) await() {
	if _, err := c.in.ReadString('\n'); err != nil {
		os.Exit(0)
	}
}

func (c *child) mmap(size, prot int) []byte {
	mem, err := unix.Mmap(-1, 0, size, prot, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	c.must(err)
	return mem
}

// mmapApart maps memory in which a test makes holes. It lies so low that the kernel, which looks
// from above, gives none of it to Go's runtime. It begins at a huge page.
func (c *child) mmapApart(size int) []byte {
	const apart = 1 << 40
	mem, err := unix.MmapPtr(-1, 0, unsafe.Add(nil, apart), uintptr(size), unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE|unix.MAP_FIXED_NOREPLACE)
	c.must(err)
	return unsafe.Slice((*byte)(mem), size)
}

// remmap puts new memory where mem is.
func (c *child) remmap(mem []byte) {
	_, err := unix.MmapPtr(-1, 0, unsafe.Pointer(&mem[0]), uintptr(len(mem)), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_FIXED)
	c.must(err)
}

// fill makes each page different, but for the zero ones.
func fill(mem []byte, seed uint64) {
	for i := 0; i < len(mem); i += stream.PageSize {
		fillPage(mem[i:][:stream.PageSize], seed+uint64(i/stream.PageSize))
	}
}

func fillPage(page []byte, i uint64) {
	if i%zeroEvery == 0 {
		clear(page)
		return
	}
	binary.LittleEndian.PutUint64(page, i*0x9e3779b97f4a7c15|1<<63)
	for n := 8; n < len(page); n *= 2 {
		copy(page[n:], page[:n])
	}
}

// process is a child of the test.
type process struct {
	cmd *exec.Cmd
	in  interface{ Write([]byte) (int, error) }
	out *bufio.Reader
}

func (p process) pid() int { return p.cmd.Process.Pid }

// launch starts a child in the role and waits until it is ready. It is killed when the
// test ends.
func launch(t testing.TB, role string) process {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleEnv+"="+role, "GOGC=off")
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
		_ = cmd.Wait() // killed
	})
	p := process{cmd, in, bufio.NewReader(out)}
	p.hear(t, "ready")
	needReadable(t, p.pid())
	return p
}

// hear waits for a word of the child and returns what it says after it.
func (p process) hear(t testing.TB, word string) string {
	t.Helper()
	line, err := p.out.ReadString('\n')
	said, ok := strings.CutPrefix(strings.TrimSpace(line), word)
	if err != nil || !ok {
		t.Fatalf("the child says %q, want %q: %v", line, word, err)
	}
	return strings.TrimSpace(said)
}

// say lets the child go on.
func (p process) say(t testing.TB) {
	t.Helper()
	if _, err := p.in.Write([]byte("go\n")); err != nil {
		t.Fatal(err)
	}
}

// members lists the child and its descendants that live.
func (p process) members(t testing.TB) []Task {
	t.Helper()
	if stateOf(p.pid()) == 'Z' {
		t.Fatal("the child has ended")
	}
	var tasks []Task
	queue := []int{p.pid()}
	for len(queue) > 0 {
		pid := queue[0]
		queue = queue[1:]
		if stateOf(pid) == 'Z' {
			continue
		}
		began, err := pidmap.Began(pid)
		if err != nil {
			continue // it ends just now
		}
		tasks = append(tasks, Task{VPID: stream.VPID(pid), PID: pid, Began: began})
		threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		if err != nil {
			continue
		}
		for _, th := range threads {
			text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", pid, th.Name()))
			for _, f := range strings.Fields(string(text)) {
				var kid int
				if _, err := fmt.Sscan(f, &kid); err == nil {
					queue = append(queue, kid)
				}
			}
		}
	}
	return tasks
}

// stop freezes all of them and returns them.
func (p process) stop(t testing.TB) []Task {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for still, known := 0, 0; ; {
		if err := unix.Kill(-p.pid(), unix.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		tasks := p.members(t)
		if len(tasks) != known || !allStopped(tasks) {
			still, known = 0, len(tasks)
		} else if still++; still == 10 {
			return tasks
		}
		if time.Now().After(deadline) {
			t.Fatal("the children do not stop")
		}
		time.Sleep(time.Millisecond)
	}
}

// allStopped also takes a thread for stopped that waits for a child which it has
// vforked, and which is stopped.
func allStopped(tasks []Task) bool {
	for _, task := range tasks {
		threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", task.PID))
		if err != nil {
			return false
		}
		for _, th := range threads {
			if s := stateAt(fmt.Sprintf("/proc/%d/task/%s/stat", task.PID, th.Name())); s != 'T' && s != 'D' {
				return false
			}
		}
	}
	return true
}

func stateOf(pid int) byte { return stateAt(fmt.Sprintf("/proc/%d/stat", pid)) }

// stateAt is the state in a stat file, Z for one that is gone.
func stateAt(path string) byte {
	text, err := os.ReadFile(path)
	if err != nil {
		return 'Z'
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	return rest[0]
}

// needReadable skips where the kernel does not let us look into our own children.
func needReadable(t testing.TB, pid int) {
	t.Helper()
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err == nil {
		_ = mem.Close()
		return
	}
	testenv.Missing(t, "memory of a child cannot be read: %v", err)
}
