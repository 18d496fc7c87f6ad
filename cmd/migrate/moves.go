package main

import (
	"cmp"
	"context"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/migrate-hpc/migrate/agent/api"
)

func newMovesCommand(c *cli) *cobra.Command {
	var all, asJSON bool
	cmd := &cobra.Command{
		Use:   "moves [flags]",
		Short: "List moves and what they wait for",
		Long: `Lists unfinished moves of your jobs from and to this node, and what they wait for. Root
sees the moves of all users. Agents finish or undo a move by themselves as soon as they
reach each other. If the other node is gone for good, migrate resolve decides the move.`,
		Example: `  migrate moves
  migrate moves --all --json`,
		Args: wantArgs(),
		RunE: interruptible(func(ctx context.Context, _ []string) error {
			moves, err := c.client().Moves(ctx, all)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(c.out, moves)
			}
			return printMoves(c.out, moves, c.now())
		}),
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "list those that are finished, too")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON array")
	return cmd
}

// maxNote bounds the last column, in characters.
const maxNote = 80

func printMoves(w io.Writer, moves []api.MoveSummary, now time.Time) error {
	t := newTable(w)
	t.row("MOVE", "JOB", "NAME", "ROLE HERE", "PEER", "STATE", "SINCE", "WAITS FOR")
	for _, m := range moves {
		waits := m.WaitFor
		if m.Finished && m.Note != "" {
			waits = "- (" + clip(oneLine(m.Note), maxNote) + ")"
		}
		t.row(m.Move, cmp.Or(string(m.Job), "-"), cmp.Or(m.Name, "-"), cmp.Or(m.Role, "-"), cmp.Or(m.Peer, "-"),
			m.State, since(now, m.Since), cmp.Or(waits, "-"))
	}
	return t.flush()
}

func since(now, t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return age(now, t)
}
