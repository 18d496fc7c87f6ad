package main

import (
	"cmp"
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/migrate-hpc/migrate/agent/api"
)

func newRestoreCommand(c *cli) *cobra.Command {
	var req api.RestoreRequest
	var show display
	var detach bool
	cmd := &cobra.Command{
		Use:   "restore [flags] DIR",
		Short: "Start a job from a directory that it was saved in",
		Long: `Starts a job on this node from DIR, where migrate checkpoint has saved it. It accepts
only images that a node of this cluster has signed.

The agent first asks the node that wrote DIR, and every node that the job was on or may
have come to since. It does not start a job that lives on one of them, and it refuses if
one of them does not answer. If such a node is down for good, root declares it dead with
--declared-dead, and answers for it. If the node comes back with a copy of the job, that
copy ends as soon as the node hears of the restore.

Without --detach, restore stays with the job as run does, and prints all of its output.
The clocks of the job continue from the checkpoint (continuous), or from there plus the
time that has passed since (elapsed).`,
		Example: `  migrate restore /scratch/sim.1
  migrate restore -d --clock elapsed /scratch/sim.1
  migrate restore --declared-dead node-a /scratch/sim.1`,
		Args: wantArgs("DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkClock(req.Clock); err != nil {
				return usage(cmd, err)
			}
			cwd, err := c.getwd()
			if err != nil {
				return err
			}
			req.Dir = absolute(cwd, args[0])
			req.Foreground = !detach && !show.json
			return c.restore(cmd.Context(), req, show)
		},
	}
	cmd.Flags().BoolVarP(&detach, "detach", "d", false, "print the job's id and do not stay with it")
	cmd.Flags().StringVar(&req.Clock, "clock", "continuous", "how clocks go on: continuous or elapsed, `MODE`")
	cmd.Flags().StringArrayVar(&req.DeclaredDead, "declared-dead", nil, "this `NODE` is down for good and does not run the job; root only; may be repeated")
	show.flags(cmd)
	cmd.Flags().Lookup("json").Usage += "; implies --detach"
	return cmd
}

func (c *cli) restore(ctx context.Context, req api.RestoreRequest, show display) error {
	starting, release := signal.NotifyContext(ctx, notIgnored(os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)...)
	defer release()
	r, err := c.showProgress(show, func(onEvent func(api.Event)) (*api.Result, error) { return c.client().Restore(starting, req, onEvent) })
	if err != nil && starting.Err() != nil {
		return &api.Error{Code: api.CodeCancelled, Message: "interrupted; the agent calls the restore off", Hint: "migrate ps"}
	}
	if err != nil {
		return err
	}
	if !req.Foreground {
		if !show.json {
			err = printLine(c.out, "%s", r.Job)
		}
		return cmp.Or(err, cleanUpLeft(r))
	}
	signals, stop := catchSignals() // from here on they are the job's
	defer stop()
	release()
	if r.CleanupLeft != "" {
		c.notice("left behind: " + r.CleanupLeft)
	}
	j, err := c.client().Inspect(ctx, string(r.Job))
	if err != nil {
		return err
	}
	return c.attach(ctx, j, signals, show.quiet)
}
