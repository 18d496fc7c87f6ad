package pages

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/checkpoint/image"
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
	for off := uintptr(0); off < pageSize; off += 8 {
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

// firstWrong returns the first page in [from, to) of the memory at base that is
// not as expected; numbers count from first.
//
//go:nosplit
//go:norace
func firstWrong(base uintptr, first, count int, zero bool) int {
	for i := 0; i < count; i++ {
		if !rightPage(base+uintptr(i)*pageSize, first+i, zero) {
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
	base, _, errno := unix.Syscall6(unix.SYS_MMAP, 0, uintptr(t.pages*pageSize), unix.PROT_READ|unix.PROT_WRITE,
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

func (t *testTask) at(page int) uintptr { return t.base + uintptr(page)*pageSize }

func (t *testTask) obey(op string, a [4]int) error {
	n := uintptr(a[1]) * pageSize
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
	reg := [4]uint64{uint64(t.at(from)), uint64(count * pageSize), 1, 0}
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

// chunkOfMemory is a piece of memory that a thread of churn owns.
type chunkOfMemory struct {
	addr  uintptr
	state []int // page number that it holds, or -1 for zero
}

//go:nosplit
//go:norace
func (c *chunkOfMemory) wrong() int {
	for i := range c.state {
		if !rightPage(c.addr+uintptr(i)*pageSize, c.state[i], c.state[i] < 0) {
			return i
		}
	}
	return -1
}

// churn lets threads move, grow, discard, unmap, overwrite and check their
// memory, and forks now and then, while the pages arrive.
func (t *testTask) churn(threads, rounds int, seed uint64) error {
	const per = 24
	var still sync.RWMutex // held for writing around a fork
	errs := make(chan error, threads)
	owned := make([][]chunkOfMemory, threads)
	for p := 0; p+per <= t.pages; p += per {
		c := chunkOfMemory{addr: t.at(p)}
		for i := range per {
			c.state = append(c.state, p+i)
		}
		i := p / per % threads
		owned[i] = append(owned[i], c)
	}
	for i := range threads {
		go func() {
			runtime.LockOSThread()
			errs <- churnOwn(rand.New(rand.NewPCG(seed, uint64(i))), &still, owned[i], rounds)
		}()
	}
	var err error
	for left := threads; left > 0; {
		select {
		case e := <-errs:
			err = errors.Join(err, e)
			left--
		case <-time.After(50 * time.Millisecond):
			still.Lock()
			err = errors.Join(err, forkAndCheck(owned))
			still.Unlock()
		}
	}
	for _, own := range owned {
		for i := range own {
			if p := own[i].wrong(); p >= 0 {
				err = errors.Join(err, fmt.Errorf("page %d of %#x wrong at the end", p, own[i].addr))
			}
		}
	}
	return err
}

func forkAndCheck(owned [][]chunkOfMemory) error {
	pid, _, errno := syscall.RawSyscall6(syscall.SYS_CLONE, uintptr(syscall.SIGCHLD), 0, 0, 0, 0, 0)
	if errno != 0 {
		return errno
	}
	if pid == 0 {
		for i := range owned {
			for j := range owned[i] {
				if owned[i][j].wrong() >= 0 {
					syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 1, 0, 0)
				}
			}
		}
		syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 0, 0, 0)
	}
	return childStatus(int(pid))
}

func churnOwn(rnd *rand.Rand, still *sync.RWMutex, own []chunkOfMemory, rounds int) error {
	for range rounds {
		still.RLock()
		err := own[rnd.IntN(len(own))].disturb(rnd)
		still.RUnlock()
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *chunkOfMemory) disturb(rnd *rand.Rand) error {
	size := uintptr(len(c.state)) * pageSize
	if size == 0 {
		return nil
	}
	from := rnd.IntN(len(c.state))
	n := 1 + rnd.IntN(len(c.state)-from)
	at := c.addr + uintptr(from)*pageSize
	switch rnd.IntN(12) {
	case 0, 1, 2: // grow, which moves it where there is room, and shrink again
		addr, _, errno := unix.Syscall6(unix.SYS_MREMAP, c.addr, size, size+3*pageSize, unix.MREMAP_MAYMOVE, 0, 0)
		if errno != 0 {
			return fmt.Errorf("grow: %w", errno)
		}
		c.addr = addr
		if _, _, errno := unix.Syscall6(unix.SYS_MREMAP, c.addr, size+3*pageSize, size, 0, 0, 0); errno != 0 {
			return fmt.Errorf("shrink: %w", errno)
		}
	case 3:
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, at, uintptr(n)*pageSize, unix.MADV_DONTNEED); errno != 0 {
			return fmt.Errorf("discard: %w", errno)
		}
		for i := range n {
			c.state[from+i] = -1
		}
	case 4: // drop the tail
		if _, _, errno := unix.Syscall(unix.SYS_MUNMAP, at, size-uintptr(from)*pageSize, 0); errno != 0 {
			return fmt.Errorf("unmap: %w", errno)
		}
		c.state = c.state[:from]
	case 5, 6: // overwrite with another number
		num := rnd.IntN(1 << 20)
		for off := uintptr(0); off < pageSize; off += 8 {
			p := at + off
			*(*uint64)(*(*unsafe.Pointer)(unsafe.Pointer(&p))) = word(uint64(num), uint64(off))
		}
		c.state[from] = num
	default:
		if !rightPage(at, c.state[from], c.state[from] < 0) {
			return fmt.Errorf("page %d of %#x is wrong, want number %d", from, c.addr, c.state[from])
		}
	}
	return nil
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

func (r *remote) page(n int) uint64 { return r.base + uint64(n)*pageSize }

// scene is a restore in which the test plays CRIU.
type scene struct {
	t       testing.TB
	store   *Store
	server  *Server
	conn    *os.File
	regions map[image.VPID][]image.Region
	result  chan error
	stats   Stats
	cancel  func()
}

func newScene(t testing.TB) *scene {
	t.Helper()
	needUserfaultfd(t)
	s := &scene{t: t, store: mustCreate(t), regions: make(map[image.VPID][]image.Region), result: make(chan error, 1)}
	dir := t.TempDir()
	server, err := Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	s.server = server
	c, err := net.Dial("unix", dir+"/"+socketName)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if s.conn, err = c.(*net.UnixConn).File(); err != nil {
		t.Fatal(err)
	}
	if err := unix.SetNonblock(int(s.conn.Fd()), false); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.conn.Close() })
	return s
}

func needUserfaultfd(t testing.TB) {
	t.Helper()
	fd, _, errno := unix.Syscall(unix.SYS_USERFAULTFD, unix.O_CLOEXEC, 0, 0)
	if errno == 0 {
		unix.Close(int(fd))
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("userfaultfd: %v", errno)
	}
	t.Skipf("userfaultfd for faults in the kernel needs root or vm.unprivileged_userfaultfd: %v", errno)
}

// task starts a task with so many pages, all of them in the store.
func (s *scene) task(vpid image.VPID, pages int) *remote {
	s.t.Helper()
	r := startTask(s.t, s.conn, pages)
	s.put(r, vpid, 0, pages)
	return r
}

func (s *scene) put(r *remote, vpid image.VPID, from, pages int) {
	s.t.Helper()
	for n := from; n < from+pages; n += 255 {
		k := min(255, from+pages-n)
		mustPut(s.t, s.store, vpid, r.page(n), fill(k, uint64(n)<<16))
	}
	s.regions[vpid] = append(s.regions[vpid], image.Region{Addr: r.page(from), Pages: int64(pages), Lazy: true})
}
