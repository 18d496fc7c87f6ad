package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/migrate-hpc/migrate/namespaces"
)

func main() {
	namespaces.Stage() // the pipe's restore enters its surroundings through this binary
	if len(os.Args) > 1 {
		os.Exit(helper(os.Args[1:]))
	}
	// Ctrl-C in the middle of the clean-up must not end it.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	err := execute(ctx)
	switch {
	case errors.Is(err, errInterrupted):
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(130)
	case errors.As(err, new(usageError)):
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

var errInterrupted = errors.New("interrupted; nothing is left behind")

func optionsFromEnv() (o options, err error) {
	o = options{only: os.Getenv("BENCH"), json: os.Getenv("BENCH_JSON")}
	rounds, err := numberFromEnv("BENCH_ROUNDS", 3, maxRounds)
	if err != nil {
		return o, err
	}
	o.rounds = int(rounds)
	if o.mib, err = numberFromEnv("BENCH_MEM", 0, maxMiB); err != nil {
		return o, err
	}
	if o.only != "" && len(selected(o.only)) == 0 {
		return o, usageError(fmt.Sprintf("BENCH=%s is no row; there are %s", o.only, strings.Join(rowNames(), ", ")))
	}
	return o, nil
}

func execute(ctx context.Context) (err error) {
	o, err := optionsFromEnv()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, runTime, fmt.Errorf("it took longer than %v", runTime))
	defer cancel()
	b, err := newBench(ctx, o)
	if errors.Is(ctx.Err(), context.Canceled) {
		return errInterrupted
	}
	if err != nil {
		return err
	}
	defer func() {
		left := b.close(ctx)
		if left == nil && errors.Is(ctx.Err(), context.Canceled) {
			err = errInterrupted
			return
		}
		err = errors.Join(err, left)
	}()
	if err := b.setUp(ctx); err != nil {
		return err
	}
	return b.measure(ctx)
}
