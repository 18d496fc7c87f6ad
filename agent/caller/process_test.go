package caller

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestCallerThatHasEndedIsNotTakenForWhoHasItsNumberNow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	cmd := exec.Command("/proc/self/exe", callerRole, path)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c, err := Credentials(conn)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if c.Pid != cmd.Process.Pid {
		t.Errorf("process %d is taken for %d", cmd.Process.Pid, c.Pid)
	}
	if err := c.Alive(); err != nil {
		t.Error(err)
	}
	_ = in.Close()
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if err := c.Alive(); err == nil || !strings.Contains(err.Error(), "has ended") {
		t.Errorf("got %v", err)
	}
	c.Close()
	if err := c.Alive(); err == nil {
		t.Error("who has hung up is taken to be there")
	}
}

func TestCallerThatEndedBeforeIsNone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := exec.Command("/proc/self/exe", callerRole, path).Run(); err != nil { // stdin is at its end
		t.Fatal(err)
	}
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if c, err := Credentials(conn); err == nil { // newer kernels give a descriptor of it all the same
		if err := c.Alive(); err == nil {
			t.Errorf("process %d is taken for the caller", c.Pid)
		}
		c.Close()
	}
}

// callerRole makes the test binary a
const callerRole = "agent-test-caller"

// playCaller connects and ends with its input.
func playCaller(path string) error {
	if _, err := net.Dial("unix", path); err != nil {
		return err
	}
	_, err := unix.Read(int(os.Stdin.Fd()), make([]byte, 1))
	return err
}
