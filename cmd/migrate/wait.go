package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/migrate-hpc/migrate/agent/api"
)

func newWaitCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "wait JOB...",
		Short: "Wait until jobs are over and print how they ended",
		Long: `Waits until each job is over, through moves. It prints one line per job, in the order
given: its exit status, 128+N if signal N ended it. It ends with the first status that is
not 0.`,
		Example: `  migrate wait sim
  migrate wait $(cat jobs)`,
		Args: wantArgs("JOB..."),
		RunE: interruptible(func(ctx context.Context, args []string) error {
			var first error
			for _, ref := range args {
				err := c.wait(ctx, ref)
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

func (c *cli) wait(ctx context.Context, ref string) error {
	agent := c.client()
	j, err := agent.Inspect(ctx, ref)
	if err != nil {
		return err
	}
	if j.State == api.JobAstray {
		c.notice(astrayNotice(j))
	}
	if j, err = newFollower(agent, j, nil, func(string) {}).follow(ctx); err != nil {
		return err
	}
	c.explainEnd(j)
	if j.State == api.JobExited && j.Exit != nil {
		_, err = fmt.Fprintln(c.out, jobStatus(j))
	}
	return cmp.Or(err, endError(j))
}
