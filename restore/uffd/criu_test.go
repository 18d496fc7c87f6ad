package uffd

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/restore/pagestore"
	"github.com/migrate-hpc/migrate/stream"
	"github.com/migrate-hpc/migrate/testenv"
)

// jobEnv makes the test binary a job that CRIU can save. It checks its memory again and again, and
// says so in the file that the variable names.
const jobEnv = "MIGRATE_TEST_JOB_FILE"

const jobPages = 1 << 14

func beJob(path string) {
	mem, err := unix.Mmap(-1, 0, jobPages*stream.PageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		os.Exit(2)
	}
	for p := range jobPages / 2 { // the other half is never touched
		copy(mem[p*stream.PageSize:], fill(1, uint64(p)<<16))
	}
	f, err := os.Create(path)
	if err != nil {
		os.Exit(2)
	}
	for round := 1; ; round++ {
		state := fmt.Sprintf("right %-20d\n", round)
		if err := checkJob(mem); err != nil {
			state = fmt.Sprintf("wrong %-20v\n", err)
		}
		if _, err := f.WriteAt([]byte(state), 0); err != nil {
			os.Exit(2)
		}
		//house:allow time.Sleep: the pace of the job
		time.Sleep(5 * time.Millisecond)
	}
}

func checkJob(mem []byte) error {
	for p := range jobPages / 2 {
		if string(mem[p*stream.PageSize:(p+1)*stream.PageSize]) != string(fill(1, uint64(p)<<16)) {
			return fmt.Errorf("page %d", p)
		}
	}
	return nil
}

func findCRIU(t *testing.T) string {
	t.Helper()
	reason := "no CRIU: neither MIGRATE_CRIU nor /usr/local/lib/migrate/criu/criu nor one in PATH"
	if os.Geteuid() != 0 {
		reason = "CRIU needs root"
	} else {
		for _, name := range []string{os.Getenv("MIGRATE_CRIU"), "/usr/local/lib/migrate/criu/criu", "criu"} {
			if path, err := exec.LookPath(name); err == nil && exec.Command(path, "--version").Run() == nil {
				return path
			}
		}
	}
	testenv.Missing(t, "%s", reason)
	return ""
}

// startJob starts a job and waits until it has checked its memory once.
func startJob(t *testing.T, state string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{jobEnv + "=" + state}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	waitRounds(t, state, 1)
	return cmd
}

// waitRounds waits until the job has checked its memory so often.
func waitRounds(t *testing.T, state string, rounds int) int {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		b, _ := os.ReadFile(state)
		var word string
		var n int
		fmt.Sscan(string(b), &word, &n)
		if word == "wrong" {
			t.Fatalf("job: %s", b)
		}
		if n >= rounds {
			return n
		}
		if time.Now().After(deadline) {
			t.Fatalf("job does not go on: %q, want round %d", b, rounds)
		}
	}
}

// criu runs one command of CRIU and shows its log if that fails.
func criu(t *testing.T, path, dir string, args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	log := filepath.Join(dir, args[0]+".log")
	out, err := exec.CommandContext(ctx, path, append(args, "-D", dir, "-o", log, "-v4")...).CombinedOutput()
	if err == nil {
		return nil
	}
	b, _ := os.ReadFile(log)
	lines := strings.Split(string(b), "\n")
	return fmt.Errorf("criu %s: %w\n%s\n%s", args[0], err, out, strings.Join(lines[max(0, len(lines)-25):], "\n"))
}

// dumpLazily saves the job without its lazy memory and leaves it stopped.
func dumpLazily(t *testing.T, path, dir string, pid int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	ended := make(chan error, 1)
	go func() {
		ended <- criu(t, path, dir, "dump", "-t", strconv.Itoa(pid), "--lazy-pages",
			"--address", "127.0.0.1", "--port", strconv.Itoa(port), "--leave-stopped")
	}()
	for {
		select {
		case err := <-ended:
			if err != nil {
				t.Fatal(err)
			}
			return
		case <-time.After(10 * time.Millisecond):
			if c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
				c.Close()
			}
		}
	}
}

func anyLazy(regions []image.Region) bool {
	return slices.ContainsFunc(regions, func(r image.Region) bool { return r.Lazy })
}

func storeMemory(t *testing.T, s *pagestore.Store, pid int, regions []image.Region) {
	t.Helper()
	for _, r := range regions {
		if !r.Lazy {
			continue
		}
		buf := make([]byte, r.Pages*stream.PageSize)
		local := []unix.Iovec{{Base: &buf[0], Len: uint64(len(buf))}}
		remote := []unix.RemoteIovec{{Base: uintptr(r.Addr), Len: len(buf)}}
		n, err := unix.ProcessVMReadv(pid, local, remote, 0)
		if err != nil || n != len(buf) {
			t.Fatalf("read %d of %d bytes at %#x: %v", n, len(buf), r.Addr, err)
		}
		mustPut(t, s, stream.VPID(pid), r.Addr, buf)
	}
}

func TestCRIURestoresAJobWhoseMemoryIsServed(t *testing.T) {
	needUserfaultfd(t)
	path := findCRIU(t)
	dir, state := t.TempDir(), filepath.Join(t.TempDir(), "state")
	job := startJob(t, state)
	pid := job.Process.Pid
	dumpLazily(t, path, dir, pid)
	regions, err := image.Pagemaps(dir)
	for tries := 0; err == nil && tries < 5 && !anyLazy(regions[stream.VPID(pid)]); tries++ {
		// CRIU 4.2 takes all memory for a stack if one ends at the start of a page.
		if err := unix.Kill(pid, unix.SIGCONT); err != nil {
			t.Fatal(err)
		}
		dir = t.TempDir()
		dumpLazily(t, path, dir, pid)
		regions, err = image.Pagemaps(dir)
	}
	if err != nil {
		t.Fatal(err)
	}
	if !anyLazy(regions[stream.VPID(pid)]) {
		t.Fatal("no memory is left to be served")
	}
	store := mustCreate(t)
	storeMemory(t, store, pid, regions[stream.VPID(pid)])
	before := waitRounds(t, state, 1)
	job.Process.Kill()
	job.Wait()

	server, err := Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	served := make(chan error, 1)
	go func() {
		st, err := server.Serve(ctx, store, regions, 2)
		t.Logf("%+v", st)
		served <- err
	}()
	t.Cleanup(func() { syscall.Kill(pid, syscall.SIGKILL) })
	if err := criu(t, path, dir, "restore", "--lazy-pages", "-d"); err != nil {
		t.Fatal(err)
	}
	if err := <-served; err != nil {
		t.Fatal(err)
	}
	waitRounds(t, state, before+5)
	if n := onDisk(t, store); n > pagestore.BlockSize {
		t.Fatalf("the store still takes %d bytes", n)
	}
}
