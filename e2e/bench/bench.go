package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/criu"
	"github.com/migrate-hpc/migrate/e2e/oracle"
	"github.com/migrate-hpc/migrate/transport/pki"
)

// bench is a run: two nodes, and what has been measured so far.
type bench struct {
	o            options
	binary       string // the program that is measured
	criu, oracle string
	self         string // this binary
	dir, memory  string // directories on a disk and on a tmpfs
	a, b         *node

	tried map[way]error     // a small job on each way
	done  map[run][]outcome // one per round
	order []run             // in which they were first done
	notes []string          // shown under the table
}

// newBench looks for all that is needed. An error says what cannot be run and why.
func newBench(ctx context.Context, o options) (*bench, error) {
	b := &bench{o: o, tried: map[way]error{}, done: map[run][]outcome{}}
	const nothing = "nothing can be measured: "
	if os.Geteuid() != 0 {
		return nil, errors.New(nothing + "agents and CRIU need root")
	}
	var err error
	if b.self, err = os.Executable(); err != nil {
		return nil, err
	}
	if b.binary, err = filepath.Abs(orElse(os.Getenv("MIGRATE_BIN"), "bin/migrate")); err != nil {
		return nil, err
	}
	if _, err := os.Stat(b.binary); err != nil {
		return nil, fmt.Errorf(nothing+"%w (`make build`)", err)
	}
	if err := b.findCRIU(ctx); err != nil {
		return nil, fmt.Errorf(nothing+"%w", err)
	}
	if b.oracle, err = oracle.Build(ctx); err != nil {
		return nil, fmt.Errorf(nothing+"%w", err)
	}
	return b, nil
}

func (b *bench) findCRIU(ctx context.Context) error {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return err
	}
	var err error
	if b.criu, err = criu.Find(""); err != nil {
		return err
	}
	v, err := criu.New(b.criu, "", slog.New(slog.DiscardHandler)).Version(ctx)
	if err != nil {
		return fmt.Errorf("%s does not work: %w", b.criu, err)
	}
	release := unix.ByteSliceToString(u.Release[:])
	if floor, why := criu.Floor(release); !v.AtLeast(floor) {
		return fmt.Errorf("%s is version %v, and this kernel needs %v: %s", b.criu, v, floor, why)
	}
	b.note("Linux %s, CRIU %v, load %s at the start.", release, v, loadAverage())
	return nil
}

// setUp makes two nodes with agents that listen on the loopback.
func (b *bench) setUp(ctx context.Context) (err error) {
	pattern := fmt.Sprintf("migrate-bench-%d-*", os.Getpid())
	// /tmp may be a tmpfs, which has no room that memory has not.
	if b.dir, err = os.MkdirTemp(orElse(os.Getenv("TMPDIR"), "/var/tmp"), pattern); err != nil {
		return err
	}
	if b.memory, err = os.MkdirTemp("/dev/shm", pattern); err != nil {
		return err
	}
	ca := filepath.Join(b.dir, "ca")
	const valid = 3 * time.Hour
	if err := pki.Init(ca, "migrate bench", valid+time.Hour); err != nil {
		return err
	}
	for _, n := range []struct {
		node **node
		name string
	}{{&b.a, "bench-a"}, {&b.b, "bench-b"}} {
		if *n.node, err = b.newNode(n.name); err != nil {
			return err
		}
		if err := pki.Issue(ca, n.name, valid, (*n.node).pki); err != nil {
			return err
		}
	}
	return errors.Join(b.a.start(ctx, b, b.b), b.b.start(ctx, b, b.a))
}

const cleanUpTime = 60 * time.Second

// close takes everything away that was made.
func (b *bench) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTime)
	defer cancel()
	var errs []error
	for _, n := range []*node{b.a, b.b} {
		if n != nil {
			errs = append(errs, n.removeJobs(ctx))
		}
	}
	for _, n := range []*node{b.a, b.b} {
		if n != nil {
			errs = append(errs, n.stop(ctx))
		}
	}
	for _, dir := range []string{b.memory, b.dir} {
		errs = append(errs, removeDir(dir))
	}
	return errors.Join(errs...)
}
