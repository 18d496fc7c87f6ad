package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// commandGroup is a command that only has commands beneath it.
func commandGroup(use, short string) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, SuggestionsMinimumDistance: 2,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			problem := fmt.Sprintf("there is no command %q", args[0])
			if like := cmd.SuggestionsFor(args[0]); len(like) > 0 {
				problem += "; did you mean " + strings.Join(like, " or ") + "?"
			}
			return usage(cmd, errors.New(problem))
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
}

// wantArgs checks that a command got these arguments. The last may end in "...": it
// may be given more than once.
func wantArgs(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		many := len(names) > 0 && strings.HasSuffix(names[len(names)-1], "...")
		if len(args) == len(names) || many && len(args) > len(names) {
			return nil
		}
		want := strings.Join(names, " ")
		if want == "" {
			want = "no arguments"
		}
		return usage(cmd, fmt.Errorf("%s takes %s, and got %d", cmd.Name(), want, len(args)))
	}
}

// interruptible gives run a context that ends with SIGINT, SIGTERM or SIGHUP.
func interruptible(run func(ctx context.Context, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		ctx, stop := signal.NotifyContext(cmd.Context(), notIgnored(os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)...)
		defer stop()
		return run(ctx, args)
	}
}

// notIgnored leaves out the signals that were ignored at the start, as under nohup.
func notIgnored(signals ...os.Signal) []os.Signal {
	var heard []os.Signal
	for _, sig := range signals {
		if !signal.Ignored(sig) {
			heard = append(heard, sig)
		}
	}
	return heard
}

// usageError is a mistake in the command line.
type usageError struct {
	cmd *cobra.Command
	err error
}

func (e *usageError) Error() string { return e.err.Error() }

func (e *usageError) Unwrap() error { return e.err }

func usage(cmd *cobra.Command, err error) error { return &usageError{cmd, err} }
