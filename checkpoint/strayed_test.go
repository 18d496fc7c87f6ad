package checkpoint

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/exec"
	"testing"

	"github.com/migrate-hpc/migrate/namespaces"
	"github.com/migrate-hpc/migrate/testenv"
)

// After the preflight, a job's PID 1 may still enter namespaces of its own making. Any
// directory may be at /tmp there.
func TestFilesInMemoryAreNotReadWhereAJobHasPutOthersInTheirPlace(t *testing.T) {
	testenv.NeedRoot(t)
	cmd := exec.Command("unshare", "-Urm", "sh", "-ec", "mount -t tmpfs none /mnt; cd /mnt; mkdir old tmp; mount -t tmpfs none tmp; pivot_root . old; cd /; echo ready; read forever")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = in.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("%q, %v", line, err)
	}
	s := &Source{Processes: Processes{Init: cmd.Process.Pid}, Log: quiet()}
	ctx := testenv.Bounded(t)
	for range 2 {
		if _, err := s.resources().warm(ctx, io.Discard, nil); !errors.Is(err, namespaces.ErrLeftNamespaces) {
			t.Errorf("file systems: %v", err)
		}
	}
	if _, err := s.resources().freeze(ctx); !errors.Is(err, namespaces.ErrLeftNamespaces) {
		t.Errorf("queues: %v", err)
	}
}
