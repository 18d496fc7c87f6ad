package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/migrate-hpc/migrate/agent/api"
)

func newWaitCommand(s *shell) *cobra.Command {
	return &cobra.Command{
		Use:   "wait JOB...",
		Short: "Wait until jobs are over and print how they ended",
		Long: `Waits until each job is over, wherever it moves, and prints its exit status, 128+N
when signal N ended it, one line per job in the order given. It ends with the first
status that is not 0.`,
		Example: `  migrate wait sim
  migrate wait $(cat jobs)`,
		Args: takes("JOB..."),
		RunE: interruptible(func(ctx context.Context, args []string) error {
			var first error
			for _, ref := range args {
				err := s.wait(ctx, ref)
				var status exitStatus
				if err != nil && !errors.As(err, &status) {
					return err
				}
				if first == nil {
					first = err
				}
			}
			return first
		}),
	}
}

func (s *shell) wait(ctx context.Context, ref string) error {
	c := s.client()
	j, err := c.Inspect(ctx, ref)
	if err != nil {
		return err
	}
	if j.State == api.JobAstray {
		s.say(astray(j))
	}
	if j, err = newFollower(c, j, nil, func(string) {}).follow(ctx); err != nil {
		return err
	}
	s.sayReason(j)
	result := outcome(j)
	if j.State == api.JobExited && j.Exit != nil {
		_, err = fmt.Fprintln(s.out, status(j))
	}
	if err != nil {
		return err
	}
	return result
}
