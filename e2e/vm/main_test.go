package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/migrate-hpc/migrate/e2e/oracle"
)

// labs are those that are open, so that an interrupted run can close them.
var labs struct {
	sync.Mutex
	open map[*Lab]bool
}

// TestMain closes what is open when somebody interrupts the tests: the machines
// would go by themselves, their disks would not.
func TestMain(m *testing.M) {
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-interrupted
		labs.Lock() // never unlocked: nothing may open another
		for l := range labs.open {
			_ = os.RemoveAll(l.Dir) // the machines go with this process
		}
		os.Exit(130)
	}()
	os.Exit(m.Run())
}

func openLab(t *testing.T) *Lab {
	t.Helper()
	if testing.Short() {
		t.Skip("these tests start virtual machines; run without -short")
	}
	l, err := NewLab(t.Context(), t.Logf)
	if errors.Is(err, ErrNoImage) && os.Getenv("CI") != "true" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	labs.Lock()
	defer labs.Unlock()
	if labs.open == nil {
		labs.open = map[*Lab]bool{}
	}
	labs.open[l] = true
	t.Cleanup(func() {
		labs.Lock()
		defer labs.Unlock()
		delete(labs.open, l)
		if err := l.Close(); err != nil {
			t.Errorf("close the lab: %v", err)
		}
	})
	return l
}

// programs builds what goes into the machines; MIGRATE_BIN may name a finished one.
func programs(t *testing.T, l *Lab) Programs {
	t.Helper()
	p := Programs{Migrate: os.Getenv("MIGRATE_BIN"), Oracle: oracle.Need(t)}
	if p.Migrate != "" {
		return p
	}
	p.Migrate = filepath.Join(l.Dir, "migrate")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-ldflags=-s -w", "-o", p.Migrate, "../../cmd/migrate")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build migrate: %v\n%s", err, text)
	}
	return p
}

// cluster is a pair of nodes for one test.
type cluster struct {
	*Cluster
	t *testing.T
}

func newCluster(t *testing.T, before func(*Node) error) *cluster {
	t.Helper()
	l := openLab(t)
	began := time.Now()
	c, err := NewCluster(t.Context(), l, programs(t, l), before)
	t.Cleanup(func() {
		if t.Failed() {
			keepEvidence(t, l)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("cluster ready after %v", time.Since(began).Round(10*time.Millisecond))
	return &cluster{c, t}
}

// run is t.Run for a test that shares the cluster.
func (c *cluster) run(name string, test func(t *testing.T)) {
	c.t.Run(name, func(t *testing.T) {
		outer := c.t
		c.t = t
		defer func() { c.t = outer }()
		test(t)
	})
}

// keepEvidence saves the logs of a failed test and tells where they are.
func keepEvidence(t *testing.T, l *Lab) {
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Log(err)
		return
	}
	dir := filepath.Join(cache, "migrate", "vm-failed", t.Name()+time.Now().Format("-20060102-150405"))
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	files, err := l.Collect(ctx, dir)
	if err != nil {
		t.Logf("collect logs: %v", err)
	}
	for _, f := range files {
		if data, err := os.ReadFile(f); err == nil {
			t.Logf("---- %s\n%s", f, tail(string(data)))
		}
	}
	t.Log(fmt.Sprintf("logs and QEMU's command lines are in %s; the same pair by hand: make vm-shell", dir))
}
