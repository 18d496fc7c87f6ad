package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/migrate-hpc/migrate/e2e/oracle"
	"github.com/migrate-hpc/migrate/testenv"
)

// labs are those that are open.
var labs struct {
	sync.Mutex
	open []*Lab
}

// TestMain closes what is open, also after an interrupt: the
// machines would go by themselves, their disks would not.
func TestMain(m *testing.M) {
	idle.places = make(chan struct{}, pairs)
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-interrupted
		labs.Lock() // never unlocked: nothing may open another
		for _, l := range labs.open {
			_ = os.RemoveAll(l.Dir) // the machines go with this process
		}
		os.Exit(130)
	}()
	code := m.Run()
	for _, l := range labs.open {
		if err := l.Close(); err != nil {
			fmt.Fprintln(os.Stderr, "close the lab:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// openLab skips the test if there is no image; where CI is set that is a failure.
func openLab(t *testing.T) *Lab {
	t.Helper()
	if testing.Short() {
		t.Skip("these tests start virtual machines; run without -short")
	}
	labs.Lock()
	defer labs.Unlock()
	l, err := NewLab(t.Context(), func(format string, args ...any) { fmt.Printf("    vm: "+format+"\n", args...) })
	if errors.Is(err, ErrNoImage) {
		testenv.Missing(t, "%v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	labs.open = append(labs.open, l)
	return l
}

// closeLab ends the machines of a lab before the tests end.
func closeLab(t *testing.T, l *Lab) {
	t.Helper()
	labs.Lock()
	defer labs.Unlock()
	labs.open = slices.DeleteFunc(labs.open, func(each *Lab) bool { return each == l })
	if err := l.Close(); err != nil {
		t.Errorf("close the lab: %v", err)
	}
}

// programs builds what goes into the machines; MIGRATE_BIN may name a finished one.
func programs(t *testing.T, l *Lab) Programs {
	t.Helper()
	build(t, filepath.Join(l.Dir, "echo"), "./testdata/echo")
	p := Programs{Migrate: os.Getenv("MIGRATE_BIN"), Oracle: oracle.Need(t)}
	if p.Migrate == "" {
		p.Migrate = filepath.Join(l.Dir, "migrate")
		build(t, p.Migrate, "../../cmd/migrate")
	}
	return p
}

func build(t *testing.T, out, pkg string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags=-s -w", "-o", out, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", pkg, err, text)
	}
}

// cluster is a pair of nodes, for one test or for one after another.
type cluster struct {
	*Cluster
	t *testing.T
}

// pairs is how many clusters there are at most. An emulated pair leaves a third of two
// cores to others, and a test waits half of its time.
const pairs = 2

// idle are the clusters that the tests use in turn and leave as they were. A test that
// wants one takes a place first.
var idle struct {
	sync.Mutex
	clusters []*cluster
	places   chan struct{}
}

// newCluster hands one out; a test that fails takes it down with itself.
func newCluster(t *testing.T) *cluster {
	t.Helper()
	t.Parallel()
	idle.places <- struct{}{}
	t.Cleanup(func() { <-idle.places })
	c := takeCluster()
	if c == nil {
		c = makeCluster(t)
	}
	c.t = t
	t.Cleanup(func() {
		c.report(t)
		if t.Failed() {
			closeLab(t, c.A.lab)
			return
		}
		idle.Lock()
		defer idle.Unlock()
		idle.clusters = append(idle.clusters, c)
	})
	// As what keeps the clocks of nodes together does it all the time.
	if err := c.each(func(n *Node) error { return n.SetClock(t.Context(), 0) }); err != nil {
		t.Fatal(err)
	}
	return c
}

func takeCluster() *cluster {
	idle.Lock()
	defer idle.Unlock()
	last := len(idle.clusters) - 1
	if last < 0 {
		return nil
	}
	c := idle.clusters[last]
	idle.clusters = idle.clusters[:last]
	return c
}

func makeCluster(t *testing.T) *cluster {
	t.Helper()
	l := openLab(t)
	began := time.Now()
	p := programs(t, l)
	c, err := NewCluster(t.Context(), l, p)
	if err == nil {
		err = c.each(func(n *Node) error { return n.Put(t.Context(), filepath.Join(l.Dir, "echo"), echo, 0o755) })
	}
	if err != nil {
		if _, errs := l.Collect(context.Background(), evidenceDir(t)); errs != nil {
			t.Log(errs)
		}
		t.Fatalf("%v\nlogs are in %s", err, evidenceDir(t))
	}
	t.Logf("cluster ready after %v", time.Since(began).Round(10*time.Millisecond))
	return &cluster{c, t}
}

// echo is testdata/echo on a node.
const echo = "/usr/local/bin/echo-test"

// run is t.Run for a test that shares the cluster.
func (c *cluster) run(name string, test func(t *testing.T)) {
	c.t.Run(name, func(t *testing.T) {
		outer := c.t
		c.t = t
		defer func() { c.t = outer }()
		test(t)
	})
}

func evidenceDir(t *testing.T) string {
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(cache, "migrate", "vm-failed", t.Name())
}

// report saves the logs of a failed test and tells where they are.
func (c *cluster) report(t *testing.T) {
	if !t.Failed() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	files, err := c.A.lab.Collect(ctx, evidenceDir(t))
	if err != nil {
		t.Logf("collect logs: %v", err)
	}
	for _, f := range files {
		if data, err := os.ReadFile(f); err == nil && strings.HasSuffix(f, ".log") && !strings.HasPrefix(filepath.Base(f), "tmp_") {
			t.Logf("---- %s\n%s", f, tail(string(data)))
		}
	}
	t.Logf("logs and QEMU's command lines are in %s; such a pair for you to try: make vm-shell", evidenceDir(t))
}
