package main

import (
	"context"

	"github.com/spf13/cobra"
)

func newRmCommand(c *cli) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "rm [flags] JOB...",
		Short: "Forget jobs that are over",
		Long: `Forgets jobs that are over, with their logs. With --force it first ends those that run,
by SIGKILL. If it cannot remove a job, it goes on with the next one, and fails at the end.`,
		Example: `  migrate rm sim
  migrate rm -f sim`,
		Args: wantArgs("JOB..."),
		RunE: interruptible(func(ctx context.Context, args []string) error {
			var failed error
			for _, ref := range args {
				err := c.client().Remove(ctx, ref, force)
				if err == nil {
					continue
				}
				printFailure(c.err, failed)
				if failed = err; ctx.Err() != nil {
					break
				}
			}
			return failed
		}),
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "end jobs that run first")
	return cmd
}
