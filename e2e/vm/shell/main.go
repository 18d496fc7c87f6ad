// Shell starts the pair of machines that the tests use and opens a shell on the
// first; further ones are opened as it says. The machines end with it.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/migrate-hpc/migrate/e2e/oracle"
	"github.com/migrate-hpc/migrate/e2e/vm"
)

func main() {
	port := flag.Int("connect", 0, "open a shell on a machine that another shell has started, at this `port`")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	do := start
	if *port != 0 {
		do = func(ctx context.Context) error { return terminal(ctx, *port) }
	}
	if err := do(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "vm-shell:", err)
		os.Exit(1)
	}
}

func start(ctx context.Context) (err error) {
	lab, err := vm.NewLab(ctx, func(format string, args ...any) { fmt.Printf(format+"\n", args...) })
	if err != nil {
		return err
	}
	defer func() {
		if failed := lab.Close(); err == nil {
			err = failed
		}
	}()
	p, err := programs(ctx, lab.Dir)
	if err != nil {
		return err
	}
	c, err := vm.NewCluster(ctx, lab, p)
	if err != nil {
		return err
	}
	for _, n := range c.Nodes() {
		fmt.Printf("\nmachine %s, %s. Another shell:  go run ./e2e/vm/shell -connect %d\nQEMU was started with:\n    %s\n", n.Name, n.IP(), n.Port(), strings.Join(n.CommandLine(), " "))
	}
	fmt.Printf("\nTry:  migrate run -d --name o -- %s --count && migrate move o b\nThe machines end with this shell.\n\n", vm.Oracle)
	return terminal(ctx, c.A.Port())
}

func programs(ctx context.Context, dir string) (vm.Programs, error) {
	built, err := oracle.Build(ctx)
	if err != nil {
		return vm.Programs{}, err
	}
	p := vm.Programs{Migrate: filepath.Join(dir, "migrate"), Oracle: built}
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", p.Migrate, "./cmd/migrate")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return p, fmt.Errorf("build migrate: %w\n%s", err, text)
	}
	return p, nil
}
