package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/migrate-hpc/migrate/agent/api"
)

// maxConnections is what the transport between agents allows.
const maxConnections = 16

func newMoveCommand(s *shell) *cobra.Command {
	var req api.MoveRequest
	var show display
	cmd := &cobra.Command{
		Use:   "move [flags] JOB NODE[=HOST:PORT]",
		Short: "Move a running job to another node",
		Long: `Moves a job to the agent of NODE and says how long the job stood still. HOST:PORT is
needed only if the agent does not know the node (see migrate agent --peer).

Until the move is committed anything that goes wrong, Ctrl-C included, leaves the job
running where it is (status 3 or 4); after that it only goes forward. On a terminal
the progress is shown.`,
		Example: `  migrate move sim node-b
  migrate move --json sim node-b=10.0.0.2:7707`,
		Args: takes("JOB", "NODE"),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if req.Node, req.Addr, err = parseNode(args[1]); err == nil && (req.Connections < 0 || req.Connections > maxConnections) {
				err = fmt.Errorf("--connections is 1 to %d, or 0 to let the agent choose", maxConnections)
			}
			if err != nil {
				return usage(cmd, err)
			}
			return interruptible(func(ctx context.Context, args []string) error { return s.move(ctx, args[0], req, show) })(cmd, args)
		},
	}
	cmd.Flags().IntVar(&req.Connections, "connections", 0, "number of connections for data, `N` up to 16 (default: the agent's choice)")
	show.flags(cmd)
	return cmd
}

func (s *shell) move(ctx context.Context, ref string, req api.MoveRequest, show display) error {
	r, err := s.watch(show, func(tell func(api.Event)) (*api.Result, error) { return s.client().Move(ctx, ref, req, tell) })
	if err != nil {
		return interrupted(ctx, err, ref, "the move", "stays where it is, unless the move was committed already")
	}
	if !show.json && !show.quiet {
		fmt.Fprintf(s.out, "job %s moved to %s: stood still for %s, whole move %s, %s read, %s sent\n",
			r.Job, r.Node, span(r.StoodStill), span(r.Took), size(r.Read), size(r.Sent))
	}
	return cleanUpLeft(r)
}

// interrupted says what becomes of something that the user has called off.
func interrupted(ctx context.Context, err error, ref, what, where string) error {
	if ctx.Err() == nil {
		return err
	}
	return &api.Error{Code: api.Cancelled, Message: "interrupted; the agent calls " + what + " off", Where: where,
		Hint: "migrate inspect " + ref}
}

// cleanUpLeft is the error of a success that left something behind.
func cleanUpLeft(r *api.Result) error {
	if r.CleanupLeft == "" {
		return nil
	}
	return &api.Error{Code: api.CleanupLeft, Message: "something was left behind: " + r.CleanupLeft, Where: "runs on " + r.Node + ", not affected"}
}
