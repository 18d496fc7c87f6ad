package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/migrate-hpc/migrate/agent/api"
)

func newLogsCommand(c *cli) *cobra.Command {
	var follow, stderr bool
	cmd := &cobra.Command{
		Use:   "logs [flags] JOB",
		Short: "Print a job's output",
		Long: `Prints what a job has written to its stdout, or its stderr, from the beginning. With
--follow it goes on until the job is over, through moves. On a terminal it escapes
control characters of another user's job; through a pipe it prints all bytes.`,
		Example: `  migrate logs sim
  migrate logs -f --stderr sim`,
		Args: wantArgs("JOB"),
		RunE: interruptible(func(ctx context.Context, args []string) error {
			stream := "stdout"
			if stderr {
				stream = "stderr"
			}
			if follow {
				return c.followLogs(ctx, args[0], stream)
			}
			return c.logs(ctx, args[0], stream)
		}),
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on until the job is over")
	cmd.Flags().BoolVar(&stderr, "stderr", false, "print stderr instead of stdout")
	return cmd
}

func (c *cli) logs(ctx context.Context, ref, stream string) error {
	agent := c.client()
	uid, err := c.ownerOf(func() (api.Job, error) { return agent.Inspect(ctx, ref) })
	if err != nil {
		return err
	}
	to := c.jobOutput(uid)
	_, err = agent.Logs(ctx, ref, stream, 0, false, to.out)
	return errors.Join(err, to.flush())
}

func (c *cli) followLogs(ctx context.Context, ref, stream string) error {
	agent := c.client()
	j, err := agent.Inspect(ctx, ref)
	if err != nil {
		return err
	}
	if file := map[string]string{"stdout": j.Spec.Stdout, "stderr": j.Spec.Stderr}[stream]; file != "" {
		return &api.Error{Code: api.CodeFailed, Message: fmt.Sprintf("the job's %s goes to %s", stream, file), Hint: "tail -f " + file}
	}
	to := c.jobOutput(j.Spec.UID)
	_, err = newFollower(agent, j, map[string]io.Writer{stream: to.out}, c.notice).follow(ctx)
	return errors.Join(err, to.flush())
}
