package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

func newKillCommand(s *shell) *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:   "kill [flags] JOB",
		Short: "Send a signal to a job",
		Long: `Sends a signal to PID 1 of a job, wherever the job is. The kernel drops signals that
PID 1 has no handler for, but for KILL and STOP; KILL ends the whole job.`,
		Example: `  migrate kill sim
  migrate kill -s USR1 sim`,
		Args: takes("JOB"),
		RunE: func(cmd *cobra.Command, args []string) error {
			sig, err := parseSignal(name)
			if err != nil {
				return usage(cmd, err)
			}
			return interruptible(func(ctx context.Context, args []string) error { return s.kill(ctx, args[0], sig) })(cmd, args)
		},
	}
	cmd.Flags().StringVarP(&name, "signal", "s", "TERM", "the `SIGNAL` by name or number")
	return cmd
}

func (s *shell) kill(ctx context.Context, ref string, sig syscall.Signal) error {
	c := s.client()
	if err := c.Signal(ctx, ref, sig); err != nil {
		return err
	}
	// The signal was sent; a job that is gone by now heard it.
	if j, err := c.Inspect(ctx, ref); err == nil && unheard(j, sig) {
		s.say(unheardNote(j, sig))
	}
	return nil
}

// parseSignal reads TERM, SIGTERM or 15.
func parseSignal(s string) (syscall.Signal, error) {
	if n, err := strconv.Atoi(s); err == nil && n >= 1 && n <= 64 {
		return syscall.Signal(n), nil
	}
	name := strings.ToUpper(s)
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	if sig := unix.SignalNum(name); sig != 0 {
		return sig, nil
	}
	return 0, fmt.Errorf("there is no signal %q", s)
}
