package uffd

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/stream"
)

// The tests need processes whose memory they serve. Such a task is the test
// binary itself, started with taskEnv set. It maps memory, registers it, sends
// the userfaultfd as CRIU's restorer does, and then obeys commands, one a line.
const taskEnv = "MIGRATE_TEST_TASK_PAGES"

func TestMain(m *testing.M) {
	if path := os.Getenv(jobEnv); path != "" {
		beJob(path)
	}
	if pages := os.Getenv(taskEnv); pages != "" {
		if err := beTask(pages); err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// word is what page number page of a task holds at offset off.
func word(page, off uint64) uint64 { return page<<16 + off | 1 }

// rightPage tells whether the page at addr has the contents of page number n,
// or is zero. It runs in forked children, so it must not grow the stack.
//
//go:nosplit
//go:norace
func rightPage(addr uintptr, n int, zero bool) bool {
	for off := uintptr(0); off < stream.PageSize; off += 8 {
		want := uint64(n)<<16 + uint64(off) | 1
		if zero {
			want = 0
		}
		if *(*uint64)(*(*unsafe.Pointer)(unsafe.Pointer(&addr))) != want {
			return false
		}
		addr += 8
	}
	return true
}

// firstWrong returns the first unexpected page in [from, to) of the memory at base. Numbers count
// from first.
func firstWrong(base uintptr, first, count int, zero bool) int {
	for i := 0; i < count; i++ {
		if !rightPage(base+uintptr(i)*stream.PageSize, first+i, zero) {
			return i
		}
	}
	return -1
}

type testTask struct {
	base  uintptr
	pages int
	uffd  int
}

func beTask(pages string) error {
	t := &testTask{}
	fmt.Sscan(pages, &t.pages)
	base, _, errno := unix.Syscall6(unix.SYS_MMAP, 0, uintptr(t.pages*stream.PageSize), unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE, ^uintptr(0), 0)
	if errno != 0 {
		return errno
	}
	t.base = base
	fmt.Println(t.base)
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		var op string
		var a [4]int
		fmt.Sscan(in.Text(), &op, &a[0], &a[1], &a[2], &a[3])
		if err := t.obey(op, a); err != nil {
			fmt.Println("error", op, a, err)
			continue
		}
		fmt.Println("ok")
	}
	return in.Err()
}

func (t *testTask) at(page int) uintptr { return t.base + uintptr(page)*stream.PageSize }

func (t *testTask) obey(op string, a [4]int) error {
	n := uintptr(a[1]) * stream.PageSize
	call := func(nr uintptr, args ...uintptr) error {
		args = append(args, 0, 0, 0, 0, 0, 0)
		if _, _, errno := unix.Syscall6(nr, args[0], args[1], args[2], args[3], args[4], args[5]); errno != 0 {
			return errno
		}
		return nil
	}
	switch op {
	case "register":
		return t.register(a[0], a[1])
	case "send":
		return t.send(a[0])
	case "right":
		return wrong(firstWrong(t.at(a[0]), a[0], a[1], false))
	case "moved": // pages a[0]… are at a[2] now
		return wrong(firstWrong(t.at(a[2]), a[0], a[1], false))
	case "zero":
		return wrong(firstWrong(t.at(a[0]), a[0], a[1], true))
	case "dontneed":
		return call(unix.SYS_MADVISE, t.at(a[0]), n, unix.MADV_DONTNEED)
	case "wipeonfork":
		return call(unix.SYS_MADVISE, t.at(a[0]), n, unix.MADV_WIPEONFORK)
	case "dontfork":
		return call(unix.SYS_MADVISE, t.at(a[0]), n, unix.MADV_DONTFORK)
	case "readonly":
		return call(unix.SYS_MPROTECT, t.at(a[0]), n, unix.PROT_READ)
	case "unmap":
		return call(unix.SYS_MUNMAP, t.at(a[0]), n)
	case "move":
		return call(unix.SYS_MREMAP, t.at(a[0]), n, n, unix.MREMAP_MAYMOVE|unix.MREMAP_FIXED, t.at(a[2]))
	case "fork":
		return t.fork(a[0], a[1], a[2], a[3])
	case "churn":
		return t.churn(a[0], a[1], uint64(a[2]))
	case "touch":
		return t.touchAll(a[0])
	}
	return errors.New("unknown command")
}

func wrong(page int) error {
	if page < 0 {
		return nil
	}
	return fmt.Errorf("page %d is wrong", page)
}

func (t *testTask) register(from, count int) (err error) {
	if t.uffd == 0 {
		fd, _, errno := unix.Syscall(unix.SYS_USERFAULTFD, unix.O_CLOEXEC|unix.O_NONBLOCK, 0, 0)
		if errno != 0 {
			return errno
		}
		t.uffd = int(fd)
		const events = 1<<1 | 1<<2 | 1<<3 | 1<<6 // fork, remap, remove, unmap
		api := [3]uint64{0xaa, events, 0}
		if errno := ioctl(t.uffd, 0xc018aa3f, unsafe.Pointer(&api)); errno != 0 {
			return errno
		}
	}
	reg := [4]uint64{uint64(t.at(from)), uint64(count * stream.PageSize), 1, 0}
	if errno := ioctl(t.uffd, 0xc020aa00, unsafe.Pointer(&reg)); errno != 0 {
		return errno
	}
	return nil
}

// send hands the userfaultfd over, on descriptor 3, and closes it.
func (t *testTask) send(vpid int) error {
	pid := binary.NativeEndian.AppendUint32(nil, uint32(vpid))
	if _, err := unix.Write(3, pid); err != nil {
		return err
	}
	if err := unix.Sendmsg(3, []byte{0}, unix.UnixRights(t.uffd), nil, 0); err != nil {
		return err
	}
	return unix.Close(t.uffd)
}

// fork makes a child that checks right pages from a, and zero pages from c.
func (t *testTask) fork(a, an, c, cn int) error {
	right, zero := t.at(a), t.at(c)
	pid, _, errno := syscall.RawSyscall6(syscall.SYS_CLONE, uintptr(syscall.SIGCHLD), 0, 0, 0, 0, 0)
	if errno != 0 {
		return errno
	}
	if pid == 0 {
		code := uintptr(0)
		if firstWrong(right, a, an, false) >= 0 {
			code = 1
		} else if firstWrong(zero, c, cn, true) >= 0 {
			code = 2
		}
		syscall.RawSyscall(syscall.SYS_EXIT_GROUP, code, 0, 0)
	}
	return childStatus(int(pid))
}

func childStatus(pid int) error {
	var ws syscall.WaitStatus
	if _, err := syscall.Wait4(pid, &ws, 0, nil); err != nil {
		return err
	}
	if ws != 0 {
		return fmt.Errorf("child ended with status %#x", ws)
	}
	return nil
}

// touchAll reads every page from so many threads, in random order.
func (t *testTask) touchAll(threads int) error {
	errs := make(chan error, threads)
	for i := range threads {
		go func() {
			runtime.LockOSThread()
			rnd := rand.New(rand.NewPCG(uint64(i), 1))
			for _, p := range rnd.Perm(t.pages) {
				if !rightPage(t.at(p), p, false) {
					errs <- fmt.Errorf("page %d is wrong", p)
					return
				}
			}
			errs <- nil
		}()
	}
	var err error
	for range threads {
		err = errors.Join(err, <-errs)
	}
	return err
}

// remote is the test's end of a task.
type remote struct {
	t    testing.TB
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	base uint64
}

func startTask(t testing.TB, conn *os.File, pages int) *remote {
	t.Helper()
	r := &remote{t: t, cmd: exec.Command("/proc/self/exe")}
	r.cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", taskEnv, pages), "GOGC=off")
	r.cmd.ExtraFiles = []*os.File{conn}
	r.cmd.Stderr = os.Stderr
	r.in, _ = r.cmd.StdinPipe()
	out, _ := r.cmd.StdoutPipe()
	r.out = bufio.NewReader(out)
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.kill)
	if _, err := fmt.Sscan(r.line(), &r.base); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *remote) kill() {
	if r.cmd.ProcessState == nil {
		r.cmd.Process.Kill()
		r.cmd.Wait()
	}
}

func (r *remote) line() string {
	s, err := r.out.ReadString('\n')
	if err != nil {
		return "error: task ended: " + err.Error()
	}
	return strings.TrimSpace(s)
}

func (r *remote) begin(format string, args ...any) { fmt.Fprintf(r.in, format+"\n", args...) }

func (r *remote) wantOK() {
	r.t.Helper()
	if got := r.line(); got != "ok" {
		r.t.Errorf("task: %s", got)
	}
}

func (r *remote) do(format string, args ...any) {
	r.t.Helper()
	r.begin(format, args...)
	r.wantOK()
}

func (r *remote) page(n int) uint64 { return r.base + uint64(n)*stream.PageSize }
