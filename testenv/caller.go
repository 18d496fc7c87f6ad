package testenv

import (
	"net"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/osthread"
)

// InTime runs what could hang and fails the test if it does.
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

// DialAs connects as a user.
func DialAs(t testing.TB, uid int, socket string) net.Conn {
	t.Helper()
	var conn net.Conn
	err := osthread.Throwaway(func() (err error) {
		// Of this thread alone, which is what the kernel notes.
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), uintptr(uid), ^uintptr(0)); errno != 0 {
			return errno
		}
		conn, err = net.Dial("unix", socket)
		return err
	})
	if err != nil {
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
