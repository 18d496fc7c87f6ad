package checkpoint

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/procfs"
	"github.com/migrate-hpc/migrate/testenv"
)

// forkerEnv has this test's program make one child, by the call and with the flags in it.
const forkerEnv = "CHECKPOINT_TEST_FORKS"

func init() {
	var call, flags uint64
	if n, _ := fmt.Sscan(os.Getenv(forkerEnv), &call, &flags); n == 2 {
		fork(uintptr(call), flags)
	}
}

// fork makes a child when it is told to. Whoever returns from the call sleeps.
func fork(call uintptr, flags uint64) {
	args := struct{ flags, pidfd, childTID, parentTID, exitSignal, stack, stackSize, tls uint64 }{flags: flags, exitSignal: uint64(unix.SIGCHLD)}
	first, second := uintptr(unsafe.Pointer(&args)), unsafe.Sizeof(args)
	if call == unix.SYS_CLONE {
		first, second = uintptr(flags|uint64(unix.SIGCHLD)), 0
	}
	os.Stdout.WriteString("ready\n")
	_, _ = os.Stdin.Read(make([]byte, 1)) // the end will do, too
	if _, _, errno := syscall.RawSyscall6(call, first, second, 0, 0, 0, 0); errno != 0 {
		os.Exit(3)
	}
	for {
		syscall.RawSyscall6(unix.SYS_PPOLL, 0, 0, 0, 0, 0, 0)
	}
}

// forker starts that program. Its child stands before its first instruction. The caller's thread
// traces the child.
func forker(t *testing.T, call, flags uint64) (parent, child int) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d %d", forkerEnv, call, flags))
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	parent = testenv.Start(t, cmd)
	const events = unix.PTRACE_O_TRACEFORK | unix.PTRACE_O_TRACEVFORK | unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_EXITKILL
	if _, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_SEIZE, uintptr(parent), 0, events, 0, 0); errno != 0 {
		testenv.Missing(t, "a child cannot be traced: %v", errno)
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	var how unix.WaitStatus
	for how.TrapCause() <= 0 {
		if _, err := unix.Wait4(parent, &how, unix.WALL, nil); err != nil || !how.Stopped() {
			t.Fatalf("the parent: %#x, %v", how, err)
		}
		if how.StopSignal() == unix.SIGURG { // Go's scheduler
			if err := unix.PtraceCont(parent, 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	n, err := unix.PtraceGetEventMsg(parent)
	if err != nil {
		t.Fatal(err)
	}
	child = int(n)
	if _, err := unix.Wait4(child, &how, unix.WALL, nil); err != nil || !how.Stopped() {
		t.Fatalf("the child: %#x, %v", how, err)
	}
	if err := unix.PtraceDetach(parent); err != nil {
		t.Fatal(err)
	}
	return parent, child
}

func TestOnlyAParentThatWaitsForItsVforkedChildSpeaksAgainstAFreeze(t *testing.T) {
	for _, c := range []struct {
		name        string
		call, flags uint64
		waits       bool
	}{
		{"clone", unix.SYS_CLONE, 0, false},
		{"clone3", unix.SYS_CLONE3, 0, false},
		{"clone for vfork", unix.SYS_CLONE, unix.CLONE_VFORK, true},
		{"clone3 for vfork", unix.SYS_CLONE3, unix.CLONE_VFORK, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			runtime.LockOSThread() // and the thread ends with the test, and the child with its tracer
			parent, child := forker(t, c.call, c.flags)
			at, err := procfs.ReadSyscall(child, child)
			if err != nil || at.Number != int(c.call) {
				t.Fatalf("the child is in %+v (%v), want the call of its parent, %d", at, err, c.call)
			}
			if !c.waits && waitsForVfork(child, at) {
				t.Errorf("the newborn child is taken for one that waits: %+v", at)
			}
			testenv.Eventually(t, func() bool { // it waits for its child, or sleeps
				stat, _ := procfs.ReadStat(parent)
				at, err = procfs.ReadSyscall(parent, parent)
				return stat.State == 'D' || at.Number == unix.SYS_PPOLL
			})
			if err != nil || waitsForVfork(parent, at) != c.waits {
				t.Errorf("the parent waits: %v, want %v (%+v, %v)", !c.waits, c.waits, at, err)
			}
		})
	}
	if at := (procfs.Syscall{Number: unix.SYS_CLONE3, First: 8}); !waitsForVfork(os.Getpid(), at) {
		t.Error("arguments that cannot be read are taken for those of no vfork")
	}
}
