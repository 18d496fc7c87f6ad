package main

import (
	"bytes"
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/migrate-hpc/migrate/report"
)

func newReportCommand(s *shell) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "report [flags] MOVE",
		Short: "Write how a move went as one HTML file",
		Long: `Writes a page with pictures of a move: its phases and rounds over time, what the job
stood still for, the rates and the forecast of each round; and all numbers in tables.
The file needs nothing else, no network either. A report that is there already is
written anew. migrate moves --all lists the moves.`,
		Example: `  migrate report m0123456789abcdef
  migrate report -o /scratch/sim-move.html m0123456789abcdef
  migrate report -o - m0123456789abcdef | mail -a 'Content-Type: text/html' ada`,
		Args: takes("MOVE"),
		RunE: interruptible(func(ctx context.Context, args []string) error { return s.report(ctx, args[0], output) }),
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "`FILE` to write, - for standard output (default MOVE.html)")
	return cmd
}

func (s *shell) report(ctx context.Context, move, path string) error {
	r, err := s.client().MoveRecord(ctx, move)
	if err != nil {
		return err
	}
	var page bytes.Buffer
	if err := report.Write(&page, r, s.now()); err != nil {
		return err
	}
	if path == "-" {
		_, err := page.WriteTo(s.out)
		return err
	}
	if path == "" {
		path = r.Move + ".html"
	}
	dir, err := s.getwd()
	if err != nil {
		return err
	}
	if err := os.WriteFile(absolute(dir, path), page.Bytes(), 0o666); err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.out, "%s\n", path)
	return err
}
