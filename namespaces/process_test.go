package namespaces

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/osthread"
	"github.com/migrate-hpc/migrate/testenv"
)

// leaseholder is a file of user 4242 that cannot be opened for a while. Its owner has a write
// lease on it and ignores the kernel's signal to give it up.
func leaseholder(t *testing.T) (file string, letGo func()) {
	t.Helper()
	file = makeFile(t, filepath.Join(testenv.OpenDir(t), "out"), "")
	if err := os.Chown(file, 4242, 4242); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	signal.Ignore(unix.SIGIO)
	t.Cleanup(func() { signal.Reset(unix.SIGIO) })
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
		testenv.Missing(t, "no lease: %v", err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return file, func() { _ = f.Close() } // a second time does nothing
}

// heldStart starts a job of user 4242. Its second stage waits for a lease, as that user, until
// goOn is called.
func heldStart(t *testing.T) (stageTwo int, goOn func() (*Process, error)) {
	t.Helper()
	cfg, _ := configuration(t, "exit 0")
	cfg.UID, cfg.GID = 4242, 4242
	file, letGo := leaseholder(t)
	cfg.Mounts = []Mount{{Source: filepath.Dir(file), Target: "/tmp/d"}}
	cfg.Stdout = "/tmp/d/out"
	before := childrenOf(t, os.Getpid())
	type end struct {
		p   *Process
		err error
	}
	ended := make(chan end, 1)
	ctx := testenv.Bounded(t)
	go func() {
		p, err := Start(ctx, cfg, StartEnv{})
		ended <- end{p, err}
	}()
	eventually(t, "stage two waits for the lease, as the user", func() bool {
		for _, pid := range childrenOf(t, os.Getpid()) {
			status := readFile(t, fmt.Sprintf("/proc/%d/status", pid))
			if !slices.Contains(before, pid) && strings.Contains(status, "Uid:\t4242\t4242\t4242\t4242") {
				stageTwo = pid
			}
		}
		return stageTwo != 0
	})
	return stageTwo, func() (*Process, error) {
		letGo()
		e := <-ended
		return e.p, e.err
	}
}

// attackRole makes the test binary a process of the user's that tries what a user can try
// with a process.
const attackRole = "namespaces-test-attack"

func attack(pid int) error {
	for fd := range 16 {
		pidfd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			return err
		}
		if got, err := unix.PidfdGetfd(pidfd, fd, 0); err == nil {
			return fmt.Errorf("descriptor %d was taken from it (%d)", fd, got)
		}
	}
	if err := unix.PtraceAttach(pid); err == nil {
		return errors.New("it was traced")
	}
	for _, name := range []string{"fd/0", "fd/4", "cwd", "root", "exe"} {
		if to, err := os.Readlink(fmt.Sprintf("/proc/%d/%s", pid, name)); err == nil {
			return fmt.Errorf("its %s is known: %s", name, to)
		}
	}
	if f, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_RDWR, 0); err == nil {
		_ = f.Close()
		return errors.New("its memory was opened")
	}
	return nil
}

func TestAStageIsOutOfItsUsersReachUntilItIsTheCommand(t *testing.T) {
	stageTwo, goOn := heldStart(t)
	cmd := exec.Command("/proc/self/exe", attackRole, strconv.Itoa(stageTwo))
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 4242, Gid: 4242}}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	p, err := goOn()
	if err != nil {
		t.Fatal(err)
	}
	if ws, err := p.Wait(); err != nil || ws != 0 {
		t.Errorf("it ended with %v %v", ws, err)
	}
}

// Root's hand stands for whatever lets a user write to the report after all.
func TestNoWordOfAStageHasAProcessKilledOrAdopted(t *testing.T) {
	for name, words := range map[string]string{
		"killed":  "pid %[1]d\nerror x\n",
		"adopted": "pid %[1]d\n",
		"shown":   "error \x1b]0;%[1]d\x07\xff\n",
		"many":    strings.Repeat("pid %[1]d\n", 1000),
	} {
		t.Run(name, func(t *testing.T) {
			victim := exec.Command("sleep", "1000")
			if err := victim.Start(); err != nil {
				t.Fatal(err)
			}
			stageTwo, goOn := heldStart(t)
			pidfd, err := unix.PidfdOpen(stageTwo, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(pidfd)
			report, err := unix.PidfdGetfd(pidfd, reportFD, 0)
			if err != nil {
				t.Fatal(err)
			}
			said := make(chan error, 1)
			go func() {
				_, err := unix.Write(report, fmt.Appendf(nil, words, victim.Process.Pid))
				said <- errors.Join(err, unix.Close(report))
			}()
			if name != "many" {
				if err := <-said; err != nil {
					t.Fatal(err)
				}
			}
			p, err := goOn()
			var start *StartError
			if p != nil || !errors.As(err, &start) {
				t.Errorf("got %v %v", p, err)
			}
			if err != nil && (strings.ContainsAny(err.Error(), "\x1b\x07\n") || len(err.Error()) > 2*maxReport) {
				t.Errorf("the error is %q", err)
			}
			unhurt(t, victim)
		})
	}
}

func TestOnlyAFirstProcessOfOurOwnIsHeld(t *testing.T) {
	testenv.NeedRoot(t)
	child := exec.Command("sleep", "1000")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = child.Process.Kill(), child.Wait() })
	for pid, why := range map[int]string{os.Getppid(): "no child of ours", child.Process.Pid: "not PID 1", 1 << 30: "no such process"} {
		if p, err := OpenProcess(pid); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%d: got %v %v", pid, p, err)
		}
	}
	cfg, _ := configuration(t, "exec sleep 1000")
	init := started(t, cfg, StartEnv{})
	p, err := OpenProcess(init)
	if err != nil {
		t.Fatal(err)
	}
	second := exec.Command("sleep", "1000")
	if err := osthread.Throwaway(func() error {
		ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/pid", init))
		if err != nil {
			return err
		}
		defer ns.Close()
		return errors.Join(unix.Setns(int(ns.Fd()), unix.CLONE_NEWPID), second.Start())
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = second.Process.Kill(), second.Wait() })
	if p, err := OpenProcess(second.Process.Pid); err == nil || !strings.Contains(err.Error(), "not PID 1") {
		t.Errorf("the second process of a job: got %v %v", p, err)
	}
	_ = unix.Close(p.fd) // nothing was written
}

func TestAProcessEndsAsItsParentIsTold(t *testing.T) {
	t.Parallel()
	for script, want := range map[string]unix.WaitStatus{"exit 0": 0, "exit 41": 41 << 8, "exec sh -c 'ulimit -c 0; exit 7'": 7 << 8} {
		cfg, _ := configuration(t, script)
		if ws, _ := run(t, cfg, StartEnv{}); ws != want {
			t.Errorf("%s: %v, want %v", script, ws, want)
		}
	}
	cfg, _ := configuration(t, "exec sleep 1000")
	p, err := Start(testenv.Bounded(t), cfg, StartEnv{})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Signal(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if ws, err := p.Wait(); err != nil || ws.Signal() != unix.SIGKILL {
		t.Errorf("%v %v", ws, err)
	}
	if err := p.Signal(unix.SIGKILL); !errors.Is(err, unix.ESRCH) {
		t.Errorf("its number may be another's by now: %v", err)
	}
}

// unhurt wants a process to end by nothing that was sent to it before.
func unhurt(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Process.Signal(unix.SIGTERM); err != nil {
		t.Errorf("the victim: %v", err)
	}
	_ = cmd.Wait() // by a signal
	if ws := cmd.ProcessState.Sys().(syscall.WaitStatus); ws.Signal() != unix.SIGTERM {
		t.Errorf("the victim has ended with %v", ws)
	}
}
