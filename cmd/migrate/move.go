package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/migrate-hpc/migrate/affinity"
	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/transport"
)

// maxConnections is what a session allows, less one for images and output.
const maxConnections = transport.MaxData - 1

func newMoveCommand(c *cli) *cobra.Command {
	var req api.MoveRequest
	var show display
	var bandwidth string
	cmd := &cobra.Command{
		Use:   "move [flags] JOB NODE[=HOST:PORT]",
		Short: "Move a running job to another node",
		Long: `Moves a job to NODE and prints its downtime. HOST:PORT is needed only if the agent
does not know the node (see migrate agent --peer).

The agent sends the job's memory while the job runs, in rounds: each sends what has
changed since the one before. When the forecast of the downtime is within --max-downtime,
it freezes the job and sends the rest; then the job runs on NODE. If the job writes faster
than rounds can follow, the move ends with status 4, and the job was never stopped.
--throttle, --post-copy and --force choose something else for this case.

Until the commit any failure, Ctrl-C included, leaves the job running where it is (status
3 or 4). After the commit a move only goes forward. A terminal shows the progress.`,
		Example: `  migrate move sim node-b
  migrate move --max-downtime 1s --throttle sim node-b
  migrate move --post-copy --bandwidth 100M sim node-b
  migrate move --json sim node-b=10.0.0.2:7707`,
		Args: wantArgs("JOB", "NODE"),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if req.Node, req.Addr, err = parseNode(args[1]); err == nil && (req.Connections < 0 || req.Connections > maxConnections) {
				err = fmt.Errorf("--connections is 1 to %d, or 0 to let the agent choose", maxConnections)
			}
			if err == nil {
				req.Bandwidth, err = parseSize(bandwidth)
			}
			if err == nil {
				err = checkMove(req.MoveOptions, cmd.Flags().Changed("max-downtime"))
			}
			if err != nil {
				return usage(cmd, err)
			}
			return interruptible(func(ctx context.Context, args []string) error { return c.move(ctx, args[0], req, show) })(cmd, args)
		},
	}
	cmd.Flags().IntVar(&req.Connections, "connections", 0, fmt.Sprintf("number of connections for data, `N` up to %d (default: the agent's choice)", maxConnections))
	moveFlags(cmd.Flags(), &req.MoveOptions, &bandwidth)
	show.flags(cmd)
	return cmd
}

func moveFlags(f *pflag.FlagSet, o *api.MoveOptions, bandwidth *string) {
	f.DurationVar(&o.MaxDowntime, "max-downtime", 0, "the longest downtime that the forecast may show at the freeze,\n`DURATION` such as 500ms (default: 300ms, or what CRIU needs by itself)")
	f.BoolVar(&o.Throttle, "throttle", false, "slow the job down, step by step, if rounds cannot follow it")
	f.BoolVar(&o.PostCopy, "post-copy", false, "if rounds cannot follow the job, let it run on NODE first and pull\nthe rest after; both nodes are needed until then")
	f.BoolVar(&o.Force, "force", false, "take any downtime")
	f.BoolVar(&o.StopCopy, "stop-copy", false, "send no memory while the job runs; with --post-copy all of it is pulled")
	f.BoolVar(&o.Eager, "eager", false, "restore all memory before the job runs: longer, but pages that processes\nshare after a fork stay shared")
	f.BoolVar(&o.Verify, "verify", false, "compare a hash of every page on both sides before the commit")
	f.StringVar((*string)(&o.Affinity), "affinity", "", "of threads bound to processors: `map` keeps them where NODE gives the\nprocessors, else binds them to others, keep keeps them or refuses,\ndrop lets them run on all (default: map)")
	f.StringVar(bandwidth, "bandwidth", "", "send at most so much per second, `SIZE` such as 100M")
}

// checkMove refuses options that contradict each other.
func checkMove(o api.MoveOptions, downtimeNamed bool) error {
	if _, err := affinity.ParseMode(string(o.Affinity)); err != nil {
		return fmt.Errorf("--affinity %w", err)
	}
	switch {
	case downtimeNamed && o.MaxDowntime <= 0:
		return errors.New("--max-downtime must be more than nothing; --force takes any downtime")
	case o.Eager && o.PostCopy:
		return errors.New("--eager restores all memory before the job runs, --post-copy after: name one of them")
	case o.StopCopy && (downtimeNamed || o.Throttle):
		return errors.New("--stop-copy has no rounds that --max-downtime or --throttle could steer")
	}
	return nil
}

func (c *cli) move(ctx context.Context, ref string, req api.MoveRequest, show display) error {
	r, err := c.showProgress(show, func(onEvent func(api.Event)) (*api.Result, error) { return c.client().Move(ctx, ref, req, onEvent) })
	if err != nil {
		return interrupted(ctx, err, ref, "the move", "stays where it is, unless the move was committed already")
	}
	if !show.json && !show.quiet {
		err = printLine(c.out, "job %s moved to %s (%s%s): downtime %s, whole move %s, %s read, %s sent%s",
			r.Job, r.Node, r.Mode, rounds(r.Rounds), span(r.Downtime), span(r.Took), size(r.Read), size(r.Sent), pulled(r.Pulled))
	}
	return cmp.Or(err, cleanUpLeft(r))
}

// pulled says how much memory arrived after the job ran.
func pulled(n int64) string {
	if n == 0 {
		return ""
	}
	return ", " + size(n) + " pulled"
}

func rounds(list []api.Round) string {
	switch len(list) {
	case 0:
		return ""
	case 1:
		return ", 1 round"
	}
	return fmt.Sprintf(", %d rounds", len(list))
}
