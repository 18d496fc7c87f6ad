package testenv

import (
	"net"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// InTime runs do, and fails the test if it takes longer than Patience.
func InTime(t testing.TB, do func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		do()
	}()
	select {
	case <-done:
	case <-time.After(Patience):
		t.Fatalf("it hangs: no end within %v", Patience)
	}
}

// DialAs connects to a unix socket as a user; it needs root.
func DialAs(t testing.TB, uid int, socket string) net.Conn {
	t.Helper()
	var conn net.Conn
	dialled := make(chan error)
	go func() {
		runtime.LockOSThread() // without an unlock: the thread ends with the goroutine
		// A raw call changes this thread only; the kernel notes the ids of the thread that connects.
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), uintptr(uid), ^uintptr(0)); errno != 0 {
			dialled <- errno
			return
		}
		var err error
		conn, err = net.Dial("unix", socket)
		dialled <- err
	}()
	if err := <-dialled; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// LowLimits is the pid of a process whose hard limits are low: 100 open files, no core.
func LowLimits(t testing.TB) int {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", "ulimit -n 100; ulimit -c 0; echo; exec sleep 1000")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid
}
