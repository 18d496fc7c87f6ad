package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/migrate-hpc/migrate/agent/api"
)

func newLogsCommand(s *shell) *cobra.Command {
	var follow, stderr bool
	cmd := &cobra.Command{
		Use:   "logs [flags] JOB",
		Short: "Print a job's output",
		Long: `Prints what a job has written to its stdout, or its stderr, from the beginning. With
--follow it goes on until the job is over, wherever the job moves. On a terminal root
sees control characters of another user's job escaped; through a pipe come all bytes.`,
		Example: `  migrate logs sim
  migrate logs -f --stderr sim`,
		Args: takes("JOB"),
		RunE: interruptible(func(ctx context.Context, args []string) error {
			stream := "stdout"
			if stderr {
				stream = "stderr"
			}
			if follow {
				return s.followLogs(ctx, args[0], stream)
			}
			return s.logs(ctx, args[0], stream)
		}),
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on until the job is over")
	cmd.Flags().BoolVar(&stderr, "stderr", false, "print stderr instead of stdout")
	return cmd
}

func (s *shell) logs(ctx context.Context, ref, stream string) error {
	c := s.client()
	whose, err := s.ownerOf(func() (api.Job, error) { return c.Inspect(ctx, ref) })
	if err != nil {
		return err
	}
	to := s.carry(whose)
	_, err = c.Logs(ctx, ref, stream, 0, false, to.out)
	return errors.Join(err, to.flush())
}

func (s *shell) followLogs(ctx context.Context, ref, stream string) error {
	c := s.client()
	j, err := c.Inspect(ctx, ref)
	if err != nil {
		return err
	}
	if file := map[string]string{"stdout": j.Spec.Stdout, "stderr": j.Spec.Stderr}[stream]; file != "" {
		return &api.Error{Code: api.CodeFailed, Message: fmt.Sprintf("the job's %s goes to %s", stream, file), Hint: "tail -f " + file}
	}
	to := s.carry(j.Spec.UID)
	_, err = newFollower(c, j, map[string]io.Writer{stream: to.out}, s.say).follow(ctx)
	return errors.Join(err, to.flush())
}

// say tells news that is not the command's output.
func (s *shell) say(news string) { fmt.Fprintln(s.err, "migrate:", inner(news)) }
