package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/migrate-hpc/migrate/agent/api"
)

func newLogsCommand(s *shell) *cobra.Command {
	var follow, errors bool
	cmd := &cobra.Command{
		Use:   "logs [flags] JOB",
		Short: "Print a job's output",
		Long: `Prints what a job has written to its stdout, or its stderr, from the beginning. With
--follow it goes on until the job is over, wherever the job moves.`,
		Example: `  migrate logs sim
  migrate logs -f --stderr sim`,
		Args: takes("JOB"),
		RunE: interruptible(func(ctx context.Context, args []string) error {
			stream := "stdout"
			if errors {
				stream = "stderr"
			}
			if follow {
				return s.followLogs(ctx, args[0], stream)
			}
			_, err := s.client().Logs(ctx, args[0], stream, 0, false, s.out)
			return err
		}),
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on until the job is over")
	cmd.Flags().BoolVar(&errors, "stderr", false, "print stderr instead of stdout")
	return cmd
}

func (s *shell) followLogs(ctx context.Context, ref, stream string) error {
	c := s.client()
	j, err := c.Inspect(ctx, ref)
	if err != nil {
		return err
	}
	if file := map[string]string{"stdout": j.Spec.Stdout, "stderr": j.Spec.Stderr}[stream]; file != "" {
		return &api.Error{Code: api.Failed, Message: fmt.Sprintf("the job's %s goes to %s", stream, file), Hint: "tail -f " + file}
	}
	_, err = newFollower(c, j, map[string]io.Writer{stream: s.out}, s.say).follow(ctx)
	return err
}

// say tells news that is not the command's output.
func (s *shell) say(line string) { fmt.Fprintln(s.err, "migrate:", line) }
