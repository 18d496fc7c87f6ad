package main

import (
	"cmp"
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/migrate-hpc/migrate/agent/api"
)

func newCheckpointCommand(c *cli) *cobra.Command {
	var req api.CheckpointRequest
	var show display
	cmd := &cobra.Command{
		Use:   "checkpoint [flags] JOB DIR",
		Short: "Save a running job into a directory",
		Long: `Saves a job into DIR, a new directory on the node where the job runs, and ends the job;
with --leave-running it goes on. With --verify the node first restores DIR, up to the job's
first instruction, and drops that; the job stands still meanwhile. The node signs DIR.
migrate restore starts the job again, on any node of the cluster that can read DIR.`,
		Example: `  migrate checkpoint sim /scratch/sim.1
  migrate checkpoint --leave-running sim /scratch/sim.2`,
		Args: wantArgs("JOB", "DIR"),
		RunE: interruptible(func(ctx context.Context, args []string) error {
			cwd, err := c.getwd()
			if err != nil {
				return err
			}
			req.Dir = absolute(cwd, args[1])
			return c.checkpoint(ctx, args[0], req, show)
		}),
	}
	cmd.Flags().BoolVar(&req.LeaveRunning, "leave-running", false, "let the job go on")
	cmd.Flags().BoolVar(&req.Verify, "verify", false, "see that it can be restored, on this node, before the job is let go")
	show.flags(cmd)
	return cmd
}

func (c *cli) checkpoint(ctx context.Context, ref string, req api.CheckpointRequest, show display) error {
	r, err := c.showProgress(show, func(onEvent func(api.Event)) (*api.Result, error) {
		return c.client().Checkpoint(ctx, ref, req, onEvent)
	})
	if err != nil {
		return interrupted(ctx, err, ref, "the checkpoint", "runs on, unless the checkpoint was complete already")
	}
	if req.Verify && !r.Verified {
		return &api.Error{Code: api.CodeFailed, Message: fmt.Sprintf("job %s was saved in %s, and not verified: the agent of %s is of a version that cannot", r.Job, r.Dir, r.Node),
			Where: "in " + r.Dir, Hint: "`migrate restore " + r.Dir + "` brings it back"}
	}
	if !show.json && !show.quiet {
		err = printLine(c.out, "job %s saved in %s: downtime %s, whole checkpoint %s, %s read, %s written",
			r.Job, r.Dir, span(r.Downtime), span(r.Took), size(r.Read), size(r.Sent))
	}
	return cmp.Or(err, cleanUpLeft(r))
}
