package demo

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/migrate-hpc/migrate/criu"
	"github.com/migrate-hpc/migrate/testenv"
)

// envBin names the binary to test.
const envBin = "MIGRATE_BIN"

func TestMain(m *testing.M) { os.Exit(withBinary(m.Run)) }

// withBinary builds the binary unless there is one.
func withBinary(run func() int) int {
	if os.Getenv(envBin) != "" {
		return run()
	}
	dir, err := os.MkdirTemp("", "e2e-demo-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	bin := filepath.Join(dir, "migrate")
	build := exec.Command("go", "build", "-o", bin, "../../cmd/migrate")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		panic(string(out))
	}
	if err := os.Setenv(envBin, bin); err != nil {
		panic(err)
	}
	return run()
}

func binary(t *testing.T) string {
	t.Helper()
	bin := os.Getenv(envBin)
	if _, err := os.Stat(bin); err != nil {
		t.Fatalf("$%s: %v; `make build` makes it", envBin, err)
	}
	return bin
}

// prerequisites skips a test that cannot run here.
func prerequisites(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		testenv.Missing(t, "not root, and the demo makes namespaces")
	}
	if _, err := criu.Find(""); err != nil {
		testenv.Missing(t, "%v", err)
	}
}
