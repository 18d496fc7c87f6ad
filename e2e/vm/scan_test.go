package vm

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Some tests of package checkpoint/scan run in a guest, whose kernel has the soft-dirty
// bits that the machine's may lack.
func TestTrackingBySoftDirtyBitsShowsEveryChange(t *testing.T) {
	c := newCluster(t)
	program := filepath.Join(t.TempDir(), "scan.test")
	build := exec.Command("go", "test", "-c", "-o", program, "../../checkpoint/scan")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	const there = "/var/scan.test"
	if err := c.A.Put(t.Context(), program, there, 0o755); err != nil {
		t.Fatal(err)
	}
	defer c.sh(c.A, "rm "+there)
	const roles = "AfterTheFreeze.*/soft-dirty/(plain|writers)"
	out := c.sh(c.A, "CI=true nice -n 19 "+there+" -test.v -test.run '"+roles+"' 2>&1 || echo failed")
	for line := range strings.Lines(out) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "---") {
			t.Log(line)
		}
	}
	if n := strings.Count(out, "--- PASS: TestAfterTheFreezeTheStoreHoldsWhatTheJobHolds/soft-dirty/"); n != 2 {
		t.Errorf("%d of 2 tests passed", n)
	}
	if strings.Contains(out, "--- FAIL") || strings.HasSuffix(strings.TrimSpace(out), "failed") {
		t.Error(out)
	}
}
