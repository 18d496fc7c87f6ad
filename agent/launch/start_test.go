package launch

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/migrate-hpc/migrate/agent/node/nodetest"
	"github.com/migrate-hpc/migrate/shim"
	"github.com/migrate-hpc/migrate/testenv"
)

func TestStartThatFailsRemovesItsCgroupAfterTheLastTask(t *testing.T) {
	a, cg := &Launcher{Node: nodetest.New(t)}, nodetest.Cgroup(t)
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := cg.Enter(cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // UndoStart does not wait for killed tasks
	if err := a.UndoStart(ctx, cg, shim.Config{RunDir: filepath.Join(a.Config.RunDir, "none")}); err == nil || !strings.Contains(err.Error(), "SIGKILL") {
		t.Errorf("got %v", err)
	}
	_ = cmd.Wait()
	testenv.InTime(t, a.Background.Wait)
	if _, err := os.Stat(cg.FreezerDir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the cgroup is still there: %v", err)
	}
}
