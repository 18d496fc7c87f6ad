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

func newKillCommand(c *cli) *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:   "kill [flags] JOB",
		Short: "Send a signal to a job",
		Long: `Sends a signal to PID 1 of a job, on whichever node it is. The kernel drops a signal for
which PID 1 has no handler, except KILL and STOP. KILL ends the whole job.`,
		Example: `  migrate kill sim
  migrate kill -s USR1 sim`,
		Args: wantArgs("JOB"),
		RunE: func(cmd *cobra.Command, args []string) error {
			sig, err := parseSignal(name)
			if err != nil {
				return usage(cmd, err)
			}
			return interruptible(func(ctx context.Context, args []string) error { return c.kill(ctx, args[0], sig) })(cmd, args)
		},
	}
	cmd.Flags().StringVarP(&name, "signal", "s", "TERM", "the `SIGNAL` by name or number")
	return cmd
}

func (c *cli) kill(ctx context.Context, ref string, sig syscall.Signal) error {
	agent := c.client()
	if err := agent.Signal(ctx, ref, sig); err != nil {
		return err
	}
	// The signal was sent. A job that has ended since then got it.
	if j, err := agent.Inspect(ctx, ref); err == nil && dropsSignal(j, sig) {
		c.notice(droppedNotice(j, sig))
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
