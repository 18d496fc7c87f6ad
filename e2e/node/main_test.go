package node

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
	"github.com/migrate-hpc/migrate/testenv"
)

// tools are the programs that every test here needs. They are made once.
type tools struct {
	dir     string // on a disk, open to every user, outside /tmp, which jobs have their own of
	migrate string
	criu    string
	oracle  string
	breaker string
	calls   string
	helper  string // testdata/helper
}

var shared tools

// open are the clusters that are not taken down yet.
var open struct {
	sync.Mutex
	clusters map[*cluster]bool
}

// TestMain removes what the tests have made, also after an interrupt. With
// MIGRATE_KEEP set it stays, for a look at what failed.
func TestMain(m *testing.M) {
	if os.Getenv(fakeCRIU) != "" {
		answerAsOldCRIU()
		return
	}
	if config := os.Getenv(tamperCRIU); config != "" {
		fmt.Fprintln(os.Stderr, actAsTamperCRIU(config))
		os.Exit(1)
	}
	open.clusters = map[*cluster]bool{}
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-interrupted
		fmt.Fprintln(os.Stderr, "interrupted: removing nodes and jobs")
		open.Lock() // never unlocked: nothing may make another
		for c := range open.clusters {
			c.scrubNodes()
		}
		_ = os.RemoveAll(shared.dir)
		os.Exit(130)
	}()
	code := m.Run()
	if shared.dir != "" && os.Getenv("MIGRATE_KEEP") == "" {
		if err := os.RemoveAll(shared.dir); err != nil {
			fmt.Fprintln(os.Stderr, "clean-up:", err)
			code = 1
		}
	}
	os.Exit(code)
}

var makeTools = sync.OnceValue(func() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	var err error
	if shared.dir, err = os.MkdirTemp("/var/tmp", "migrate-node-"); err != nil {
		return err
	}
	if err := os.Chmod(shared.dir, 0o755); err != nil {
		return err
	}
	shared.helper = filepath.Join(shared.dir, "helper")
	if err := build(ctx, shared.helper, "./testdata/helper"); err != nil {
		return err
	}
	shared.migrate = filepath.Join(shared.dir, "migrate")
	if given := os.Getenv("MIGRATE_BIN"); given != "" {
		err = copyProgram(given, shared.migrate)
	} else {
		err = build(ctx, shared.migrate, "../../cmd/migrate")
	}
	if err != nil {
		return err
	}
	shared.oracle, shared.breaker = filepath.Join(shared.dir, "oracle"), filepath.Join(shared.dir, "breaker")
	shared.calls = filepath.Join(shared.dir, "calls")
	return errors.Join(buildC(ctx, oracle.Build, shared.oracle), buildC(ctx, oracle.BuildBreaker, shared.breaker),
		buildC(ctx, oracle.BuildCalls, shared.calls))
})

func buildC(ctx context.Context, build func(context.Context) (string, error), to string) error {
	built, err := build(ctx)
	if err != nil {
		return err
	}
	return copyProgram(built, to)
}

// copyProgram copies a program to where every user can start it. The directory in which it
// was built may be closed to them.
func copyProgram(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o755)
}

func build(ctx context.Context, out, pkg string, flags ...string) error {
	cmd := exec.CommandContext(ctx, "go", append(append([]string{"build", "-trimpath", "-o", out}, flags...), pkg)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", pkg, err, text)
	}
	return nil
}

// need skips the test if the machine lacks something, with the reason; where CI
// is set that is a failure.
func need(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("these tests move real jobs; run without -short")
	}
	missing := prerequisites()
	if missing == nil {
		if err := makeTools(); err != nil {
			t.Fatal(err)
		}
		return
	}
	testenv.Missing(t, "%v", missing)
}

// prerequisites is what the machine lacks. It finds the CRIU to use, too.
var prerequisites = sync.OnceValue(func() error {
	if os.Geteuid() != 0 {
		return errors.New("not root: making namespaces and cgroups needs it")
	}
	for _, p := range []struct{ program, from string }{
		{"ip", "iproute2"}, {"nft", "nftables"}, {"nsenter", "util-linux"}, {"unshare", "util-linux"}, {"setpriv", "util-linux"}, {"gcc", "gcc"}, {"catatonit", "catatonit"},
	} {
		if _, err := exec.LookPath(p.program); err != nil {
			return fmt.Errorf("%s is not installed: apt-get install %s", p.program, p.from)
		}
	}
	for _, path := range []string{os.Getenv("MIGRATE_CRIU"), "/usr/local/lib/migrate/criu/criu", "criu"} {
		if found, err := exec.LookPath(path); path != "" && err == nil {
			shared.criu = found
			return nil
		}
	}
	return errors.New("CRIU is not installed: make setup")
})
