package main

import (
	"cmp"
	"context"
	"errors"
	"io"

	"github.com/spf13/cobra"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/handoff"
)

func newInspectCommand(c *cli) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "inspect [flags] JOB|MOVE",
		Short: "Show all about one job or move",
		Long: `Shows a job, named by its id or name, on whichever node it is: its processes with
their pids on the node and in the job, its namespaces, its clocks, and the nodes that it
has been on. Shows a move, named by its id: its phases, its rounds with their rates, and
the journals of both nodes. migrate moves --all lists the ids.`,
		Example: `  migrate inspect sim
  migrate inspect --json sim
  migrate inspect m0123456789abcdef`,
		Args: wantArgs("JOB|MOVE"),
		RunE: interruptible(func(ctx context.Context, args []string) error { return c.inspect(ctx, args[0], asJSON) }),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

// inspect looks for a move first, if ref is the id of one: a job may have such a name, too.
func (c *cli) inspect(ctx context.Context, ref string, asJSON bool) error {
	agent := c.client()
	var noMove error
	if _, err := handoff.ParseMoveID(ref); err == nil {
		m, err := agent.MoveRecord(ctx, ref)
		if err == nil {
			return printValue(c.out, m, asJSON, printMove)
		}
		var e *api.Error
		if !errors.As(err, &e) || e.Code != api.CodeNotFound {
			return err
		}
		noMove = err
	}
	j, err := agent.Inspect(ctx, ref)
	if err != nil {
		return cmp.Or(noMove, err)
	}
	return printValue(c.out, j, asJSON, printJob)
}

// printValue prints v as JSON or as a table.
func printValue[T any](w io.Writer, v T, asJSON bool, printTable func(io.Writer, T) error) error {
	if asJSON {
		return printJSON(w, v)
	}
	return printTable(w, v)
}
