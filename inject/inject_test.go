package inject

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/namespaces/cgroup"
	"github.com/migrate-hpc/migrate/pidmap"
	"github.com/migrate-hpc/migrate/procfs"
	"github.com/migrate-hpc/migrate/testenv"
)

const restartNoHandler = -514

// start starts a command and waits until its first thread is in a system call.
func start(t *testing.T, call int, name string, args ...string) Target {
	t.Helper()
	cmd := exec.Command(name, args...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = cmd.Process.Kill(), cmd.Wait() })
	awaitCall(t, cmd.Process.Pid, call)
	began, err := pidmap.Began(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	return Target{cmd.Process.Pid, began}
}

func awaitCall(t *testing.T, pid, call int) {
	t.Helper()
	testenv.Eventually(t, func() bool {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/syscall", pid))
		return err != nil || strings.HasPrefix(string(text), fmt.Sprint(call)+" ")
	})
}

func nothing() error { return nil }

func TestACallIsMadeByTheThreadItself(t *testing.T) {
	one := start(t, unix.SYS_CLOCK_NANOSLEEP, "sleep", "1000")
	ran := false
	err := Run(testenv.Bounded(t), nil, []Target{one}, nothing, func(threads []*Thread) error {
		ran = true
		before, err := threads[0].Regs()
		if err != nil {
			return err
		}
		pid, err := threads[0].Syscall(unix.SYS_GETPID)
		if err != nil || int(pid) != one.TID {
			t.Errorf("getpid says %d, %v", pid, err)
		}
		if _, err := threads[0].Syscall(unix.SYS_CLOSE, 12345); !errors.Is(err, unix.EBADF) {
			t.Errorf("close of what is not open: %v", err)
		}
		if _, err := threads[0].Syscall(unix.SYS_SCHED_YIELD); err != nil {
			t.Error(err)
		}
		if after, err := threads[0].Regs(); err != nil || after != before {
			t.Errorf("registers were %+v and are %+v, %v", before, after, err)
		}
		return nil
	})
	if err != nil || !ran {
		t.Fatalf("ran: %v, %v", ran, err)
	}
	awaitCall(t, one.TID, unix.SYS_RESTART_SYSCALL) // the kernel goes on with the sleep
}

// In strict mode any call but read, write and exit ends a thread.
func TestACallOfAThreadWithSeccompFiltersIsNotJudgedByThem(t *testing.T) {
	one := start(t, unix.SYS_CLOCK_NANOSLEEP, "sleep", "1000")
	err := Run(testenv.Bounded(t), nil, []Target{one}, nothing, func(threads []*Thread) error {
		if _, err := threads[0].Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_STRICT, 0, 0); err != nil {
			return err
		}
		pid, err := threads[0].Syscall(unix.SYS_GETPID)
		if int(pid) != one.TID {
			t.Errorf("getpid of a thread in strict mode says %d", pid)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// CRIU leaves EINTR where the kernel would have gone on.
func TestACallThatWasInterruptedIsMadeAgain(t *testing.T) {
	one := start(t, unix.SYS_CLOCK_NANOSLEEP, "sleep", "1000")
	err := Run(testenv.Bounded(t), nil, []Target{one}, nothing, func(threads []*Thread) error {
		regs, err := threads[0].Regs()
		if err != nil {
			return err
		}
		if regs.Orig_rax != unix.SYS_CLOCK_NANOSLEEP {
			t.Errorf("it stands in call %d", int64(regs.Orig_rax))
		}
		again := int64(restartNoHandler)
		regs.Rax = uint64(again)
		return threads[0].SetRegs(regs)
	})
	if err != nil {
		t.Fatal(err)
	}
	awaitCall(t, one.TID, unix.SYS_CLOCK_NANOSLEEP)
}

func TestACallThatIsInterruptedAtOnceIsKeptByTheKernel(t *testing.T) {
	one := start(t, unix.SYS_CLOCK_NANOSLEEP, "sleep", "1000")
	err := Run(testenv.Bounded(t), nil, []Target{one}, nothing, func(threads []*Thread) error {
		before, err := threads[0].Regs()
		if err != nil {
			return err
		}
		const restartBlock = 516
		result, err := threads[0].Interrupted(unix.SYS_POLL, 0, 0, 1_000_000)
		if err != nil || result != -restartBlock {
			t.Errorf("got %d, %v", result, err)
		}
		if after, err := threads[0].Regs(); err != nil || after != before {
			t.Errorf("registers were %+v and are %+v, %v", before, after, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	awaitCall(t, one.TID, unix.SYS_RESTART_SYSCALL)
}

func TestWhatHasEndedIsLeftOutAndWhatIsAnotherByNowIsNotTouched(t *testing.T) {
	one, other := start(t, unix.SYS_CLOCK_NANOSLEEP, "sleep", "1000"), start(t, unix.SYS_CLOCK_NANOSLEEP, "sleep", "1000")
	gone := exec.Command("true")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	got := 0
	zombie := exec.Command("true")
	if err := zombie.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = zombie.Wait() }()
	testenv.Eventually(t, func() bool { return hasEnded(zombie.Process.Pid) })
	err := Run(testenv.Bounded(t), nil, []Target{{gone.Process.Pid, 1}, {zombie.Process.Pid, 1}, one}, nothing, func(threads []*Thread) error {
		got = len(threads)
		return nil
	})
	if err != nil || got != 1 {
		t.Errorf("%d threads, %v", got, err)
	}
	thawed := false
	err = Run(testenv.Bounded(t), nil, []Target{one, {other.TID, other.Began + 1}}, func() error { thawed = true; return nil }, func([]*Thread) error {
		t.Error("another thread is mended")
		return nil
	})
	if err == nil || !thawed {
		t.Errorf("a thread that is another by now: %v; thawed: %v", err, thawed)
	}
	testenv.Eventually(t, func() bool { return !traced(t, one.TID) && !traced(t, other.TID) })
}

func traced(t *testing.T, pid int) bool {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	return !strings.Contains(string(text), "TracerPid:\t0\n")
}

// A thread on a stalled file server does not stop. It must not keep the others.
func TestAThreadThatDoesNotStopIsLetGo(t *testing.T) {
	one, stuck := start(t, unix.SYS_CLOCK_NANOSLEEP, "sleep", "1000"), startStuck(t)
	ctx, cancel := contextAfter(t, 50*time.Millisecond)
	defer cancel()
	err := Run(ctx, nil, []Target{one, stuck}, nothing, func([]*Thread) error {
		t.Error("mended although one does not stop")
		return nil
	})
	if !errors.Is(err, errLate) {
		t.Errorf("got %v", err)
	}
	testenv.Eventually(t, func() bool { return !traced(t, one.TID) })
}

// A version 1 freezer holds a stopped thread so that ptrace(2) waits for it until the thaw.
func TestAThreadThatIsStoppedAndFrozenDoesNotKeepTheOthersFrozen(t *testing.T) {
	testenv.NeedRoot(t)
	one, stopped := start(t, unix.SYS_CLOCK_NANOSLEEP, "sleep", "1000"), start(t, unix.SYS_CLOCK_NANOSLEEP, "sleep", "1000")
	ctx := testenv.Bounded(t)
	c, err := cgroup.New(os.Getpid(), fmt.Sprintf("migrate-inject-%d", os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(c.Kill(context.Background()), c.Remove()); err != nil {
			t.Error(err)
		}
	})
	for _, target := range []Target{one, stopped} {
		if err := c.Enter(target.TID); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Kill(stopped.TID, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, func() bool {
		stat, err := procfs.ReadStat(stopped.TID)
		return err != nil || stat.State == 'T'
	})
	if err := c.Freeze(ctx); err != nil {
		t.Fatal(err)
	}
	err = Run(ctx, nil, []Target{one, stopped}, func() error { return c.Thaw(ctx) }, func([]*Thread) error { return nil })
	if c.FrozenTasksWake() != (err == nil) {
		t.Errorf("got %v", err)
	}
	if frozen, err := c.Frozen(); err != nil || frozen {
		t.Errorf("frozen: %v, %v", frozen, err)
	}
	testenv.Eventually(t, func() bool { return !traced(t, one.TID) && !traced(t, stopped.TID) })

	// With the freezer's help both are mended, and the stop goes on.
	if err := c.Freeze(ctx); err != nil {
		t.Fatal(err)
	}
	mended := 0
	err = Run(ctx, c, []Target{one, stopped}, func() error { return c.Thaw(ctx) }, func(threads []*Thread) error { mended = len(threads); return nil })
	if err != nil || mended != 2 {
		t.Errorf("%d threads are mended, want 2: %v", mended, err)
	}
	testenv.Eventually(t, func() bool {
		stat, err := procfs.ReadStat(stopped.TID)
		return err == nil && stat.State == 'T' && !traced(t, one.TID)
	})
}

// A page of a thread's memory can be on a stalled file server.
func TestAMendThatHangsIsLeftToItself(t *testing.T) {
	one := start(t, unix.SYS_CLOCK_NANOSLEEP, "sleep", "1000")
	ctx, cancel := contextAfter(t, 50*time.Millisecond)
	defer cancel()
	hang := make(chan struct{})
	err := Run(ctx, nil, []Target{one}, nothing, func([]*Thread) error { <-hang; return nil })
	close(hang)
	if !errors.Is(err, errLate) {
		t.Errorf("got %v", err)
	}
	testenv.Eventually(t, func() bool { return !traced(t, one.TID) })
}

var errLate = errors.New("late")

func contextAfter(t *testing.T, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(testenv.Bounded(t), d, errLate)
}

// stuckEnv has a copy of this test program go into a vfork whose child does not end.
const stuckEnv = "MIGRATE_TEST_STUCK"

func TestMain(m *testing.M) {
	if os.Getenv(stuckEnv) == "" {
		os.Exit(m.Run())
	}
	if child, _, _ := unix.RawSyscall(unix.SYS_VFORK, 0, 0, 0); child == 0 {
		for {
			_, _, _ = unix.RawSyscall(unix.SYS_PAUSE, 0, 0, 0)
		}
	}
}

// startStuck starts a process with a thread that no signal but SIGKILL wakes.
func startStuck(t *testing.T) Target {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env, cmd.SysProcAttr = append(os.Environ(), stuckEnv+"=1"), &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL), cmd.Wait() })
	var stuck Target
	testenv.Eventually(t, func() bool {
		calls, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/syscall", cmd.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range calls {
			if text, err := os.ReadFile(name); err == nil && strings.HasPrefix(string(text), fmt.Sprint(unix.SYS_VFORK)+" ") {
				stuck.TID, err = strconv.Atoi(filepath.Base(filepath.Dir(name)))
				return err == nil
			}
		}
		return false
	})
	began, err := pidmap.Began(stuck.TID)
	if err != nil {
		t.Fatal(err)
	}
	stuck.Began = began
	return stuck
}

func TestThreadsOfAProcessShareWhatWasLookedUp(t *testing.T) {
	one := start(t, unix.SYS_CLOCK_NANOSLEEP, "sleep", "1000")
	err := Run(testenv.Bounded(t), nil, []Target{one}, nothing, func(threads []*Thread) error {
		if _, err := threads[0].Syscall(unix.SYS_GETPID); err != nil {
			return err
		}
		again := &Thread{TID: threads[0].TID, ctx: threads[0].ctx}
		again.SameProcess(threads[0])
		if again.callAddr == 0 {
			t.Error("what was looked up is not known")
		}
		pid, err := again.Syscall(unix.SYS_GETPID)
		if int(pid) != one.TID {
			t.Errorf("getpid says %d", pid)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
