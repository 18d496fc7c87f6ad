package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

func TestAFileCountsAsWhatItTakesUp(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "full"), make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	before := blocksIn(dir)
	if err := os.WriteFile(filepath.Join(dir, "sparse"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(dir, "sparse"), 1<<30); err != nil {
		t.Fatal(err)
	}
	if after := blocksIn(dir); after-before > 1<<20 {
		t.Errorf("a hole of 1 GiB counts as %d bytes", after-before)
	}
	if n := blocksIn(filepath.Join(dir, "gone")); n != 0 {
		t.Errorf("a directory that is gone takes up %d bytes", n)
	}
}

func TestProcessesBeneathAreFound(t *testing.T) {
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	if pids := children(os.Getpid()); !slices.Contains(pids, cmd.Process.Pid) {
		t.Errorf("%v lacks %d", pids, cmd.Process.Pid)
	}
	if own, _ := residentOf(cmd.Process.Pid); own == 0 {
		t.Error("a process without memory")
	}
}

func TestSizesOfProcAreBytes(t *testing.T) {
	n, ok := fieldOf("VmPeak:\t  9 kB\nVmHWM:\t    21 kB\n", "VmHWM:")
	if !ok || n != 21<<10 {
		t.Errorf("%d, %v", n, ok)
	}
	if _, ok := fieldOf("VmHWM:\t many kB\n", "VmHWM:"); ok {
		t.Error("a size that is no number passed")
	}
}
