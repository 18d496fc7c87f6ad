package tmpfs

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/testenv"
)

// inNamespace runs a shell script in a mount namespace of its own and keeps it there.
func inNamespace(t testing.TB, script string) (pid int) {
	t.Helper()
	testenv.NeedRoot(t)
	cmd := exec.Command("sh", "-c", "mount --make-rprivate / && "+script+" && echo ready && exec sleep 1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS, Pdeathsig: unix.SIGKILL}
	return testenv.Start(t, cmd)
}

// mountAt finds a mount in mountinfo.
func mountAt(t testing.TB, pid int, target string) (id, options string) {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", pid))
	must(t, err)
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); f[4] == target {
			return f[0], f[len(f)-1]
		}
	}
	t.Fatalf("nothing is mounted at %s", target)
	return "", ""
}
