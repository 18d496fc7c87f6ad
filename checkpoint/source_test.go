package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/migrate-hpc/migrate/carry"
	"github.com/migrate-hpc/migrate/namespaces/cgroup"
	"github.com/migrate-hpc/migrate/namespaces/network"
	"github.com/migrate-hpc/migrate/osthread"
	"github.com/migrate-hpc/migrate/procfs"
	"github.com/migrate-hpc/migrate/testenv"
)

// frozenScene is a process in a cgroup and a network of its own.
func frozenScene(t *testing.T) *Source {
	t.Helper()
	cmd := exec.Command("sleep", "1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
	return sceneOf(t, cmd)
}

// sceneOf has a command in a cgroup of its own when that runs sleep.
func sceneOf(t *testing.T, cmd *exec.Cmd) *Source {
	t.Helper()
	testenv.NeedRoot(t)
	cg, err := cgroup.New(os.Getpid(), fmt.Sprintf("migrate-test-source-%d", os.Getpid()))
	if err != nil {
		testenv.Missing(t, "no cgroup can be made: %v", err)
	}
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWNET
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		reaped := make(chan error, 1)
		go func() { reaped <- cmd.Wait() }() // not before: who waits for a child takes the stops that a tracer waits for
		if err := cg.Kill(testenv.Bounded(t)); err != nil {
			t.Error(err)
		}
		<-reaped
		if err := cg.Remove(); err != nil {
			t.Error(err)
		}
	})
	testenv.Eventually(t, func() bool {
		comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", cmd.Process.Pid))
		return err != nil || string(comm) == "sleep\n"
	})
	if err := cg.Enter(cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	return &Source{Processes: Processes{Init: cmd.Process.Pid, Cgroup: cg}, Dir: t.TempDir(), IODir: t.TempDir(), Log: quiet()}
}

func TestNoJobIsFrozenWithAVisitorThatIsOnItsWayIn(t *testing.T) {
	s, ctx := frozenScene(t), testenv.Bounded(t)
	visitor := exec.Command("sleep", "1000")
	if err := visitor.Start(); err != nil {
		t.Fatal(err)
	}
	if err := s.Cgroup.Enter(visitor.Process.Pid); err != nil {
		t.Fatal(err)
	}
	if err := s.Freeze(ctx); !errors.Is(err, ErrExecRunning) || !strings.Contains(err.Error(), fmt.Sprint(visitor.Process.Pid)) {
		t.Errorf("freeze: %v", err)
	}
	if err := errors.Join(s.Thaw(ctx), visitor.Process.Kill()); err != nil {
		t.Fatal(err)
	}
	// It stays a zombie until it is waited for.
	if err := s.Freeze(ctx); err != nil {
		t.Error(err)
	}
	if err := s.Thaw(ctx); err != nil {
		t.Error(err)
	}
	_ = visitor.Wait() // it was killed
}

func TestNoJobIsFrozenForLongWithADatagramThatItDoesNotRead(t *testing.T) {
	s, ctx := frozenScene(t), testenv.Bounded(t)
	var in net.PacketConn
	err := osthread.Throwaway(func() (err error) {
		if err := network.Enter(s.Init); err != nil {
			return err
		}
		if err := network.SetUpLoopback(); err != nil {
			return err
		}
		if in, err = net.ListenPacket("udp4", "127.0.0.1:0"); err == nil {
			_, err = in.WriteTo([]byte("x"), in.LocalAddr())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	o := (*carry.Obstacle)(nil)
	if err := s.Freeze(ctx); !errors.As(err, &o) || o.Code != "datagram-waiting" {
		t.Errorf("freeze: %v", err)
	}
	if err := s.Thaw(ctx); err != nil {
		t.Fatal(err)
	}
	if _, _, err := in.ReadFrom(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Freeze(ctx), s.Thaw(ctx)); err != nil {
		t.Errorf("after it was read: %v", err)
	}
}

func TestAProcessThatHasTheNumberOfAJobThatEndedIsNotFrozenForIt(t *testing.T) {
	s, ctx := frozenScene(t), testenv.Bounded(t)
	other := exec.Command("sleep", "1000")
	other.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	s.Init = other.Process.Pid
	if err := s.Freeze(ctx); err == nil || !strings.Contains(err.Error(), "the job has ended") {
		t.Errorf("freeze: %v", err)
	}
	if err := errors.Join(s.Thaw(ctx), other.Process.Kill()); err != nil {
		t.Fatal(err)
	}
	_ = other.Wait() // killed
}

func TestAStoppedJobIsNotSuspendedAndStaysStopped(t *testing.T) {
	s, ctx := frozenScene(t), testenv.Bounded(t)
	stopped := func() bool {
		stat, err := procfs.ReadStat(s.Init)
		return err == nil && stat.State == 'T'
	}
	if err := syscall.Kill(s.Init, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, stopped)
	if by, err := FindSuspension(s.Cgroup); err != nil || by != nil {
		t.Errorf("suspended by %+v, %v", by, err)
	}
	if err := s.Freeze(ctx); err != nil {
		t.Fatal(err)
	}
	if err := s.StillFrozen(ctx); err != nil {
		t.Error(err)
	}
	if err := s.Thaw(ctx); err != nil {
		t.Error(err)
	}
	testenv.Eventually(t, stopped)
}

// An agent that ended while a thread was out of the freezer has left it there.
func TestAThreadThatWasTakenOutOfTheFreezerIsPutBack(t *testing.T) {
	s, ctx := frozenScene(t), testenv.Bounded(t)
	if s.Cgroup.FrozenTasksWake() {
		t.Skip("no thread leaves a version 2 freezer")
	}
	if err := s.Freeze(ctx); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(s.Cgroup.Dir(), "cgroup.procs")
	if err := os.WriteFile(out, fmt.Append(nil, s.Init), 0); err != nil {
		t.Fatal(err)
	}
	if err := s.StillFrozen(ctx); err == nil {
		t.Error("a job of which a process is out of the freezer is taken for frozen")
	}
	if err := s.Thaw(ctx); err != nil {
		t.Fatal(err)
	}
	if pids, err := s.Cgroup.Pids(); err != nil || !slices.Contains(pids, s.Init) {
		t.Errorf("the job's cgroup has %v, %v", pids, err)
	}
	if err := s.Freeze(ctx); err != nil {
		t.Error(err)
	}
	if err := errors.Join(s.StillFrozen(ctx), s.Thaw(ctx)); err != nil {
		t.Error(err)
	}
}

func TestAThreadIsPutBackIntoTheFreezerAlsoIfItGoesNowhere(t *testing.T) {
	s, ctx := frozenScene(t), testenv.Bounded(t)
	if s.Cgroup.FrozenTasksWake() {
		t.Skip("no thread leaves a version 2 freezer")
	}
	if err := s.Freeze(ctx); err != nil {
		t.Fatal(err)
	}
	why := errors.New("no patience")
	short, cancel := context.WithTimeoutCause(ctx, time.Millisecond, why)
	defer cancel()
	if err := s.Cgroup.ThawThread(short, s.Init, func() bool { return false }); !errors.Is(err, why) {
		t.Errorf("got %v", err)
	}
	testenv.Eventually(t, func() bool { return s.StillFrozen(ctx) == nil })
	if err := s.Cgroup.ThawThread(ctx, 1<<30, func() bool { return true }); err != nil {
		t.Errorf("of a thread that has ended: %v", err)
	}
	if err := s.Thaw(ctx); err != nil {
		t.Error(err)
	}
}

func TestFreezeReadsTheClocksAndThawUndoesIt(t *testing.T) {
	s, ctx := frozenScene(t), testenv.Bounded(t)
	if err := s.StillFrozen(ctx); err == nil || !strings.Contains(err.Error(), "thawed") {
		t.Errorf("a running job passes for frozen: %v", err)
	}
	for range 2 {
		before := s.Clock()
		if err := s.Freeze(ctx); err != nil {
			t.Fatal(err)
		}
		if now := s.Clock(); now.Mono <= before.Mono || now.Boot <= before.Boot || now.Real <= before.Real {
			t.Errorf("clocks %+v after %+v", now, before)
		}
		if err := s.StillFrozen(ctx); err != nil {
			t.Error(err)
		}
	}
	for range 2 {
		if err := s.Thaw(ctx); err != nil {
			t.Fatal(err)
		}
		if err := s.StillFrozen(ctx); err == nil {
			t.Error("it is still frozen")
		}
	}
}

func TestADumpWithoutCRIUsWorkIsAnErrorBeforeAnythingIsSent(t *testing.T) {
	s := frozenScene(t)
	if _, err := s.Send(testenv.Bounded(t), nil); err == nil {
		t.Error("a job that was never dumped was sent")
	}
}

func TestExternalMountsAreNamedInOrder(t *testing.T) {
	s := &Source{External: map[string]string{"/z": "z", "/a": "key", "/dev/job": "/dev/job"}}
	if got := s.external(); !slices.Equal(got, []string{"mnt[/a]:key", "mnt[/dev/job]:/dev/job", "mnt[/z]:z"}) {
		t.Errorf("got %v", got)
	}
}
