package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/migrate-hpc/migrate/report"
)

func newReportCommand(c *cli) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "report [flags] MOVE",
		Short: "Write how a move went as one HTML file",
		Long: `Writes a page with pictures of a move: its phases and rounds over time, the
phases of its downtime, the rates and the forecast of each round. Tables have all numbers.
The page loads no other file. A new report replaces an old one. migrate moves --all lists
the moves.`,
		Example: `  migrate report m0123456789abcdef
  migrate report -o /scratch/sim-move.html m0123456789abcdef
  migrate report -o - m0123456789abcdef | mail -a 'Content-Type: text/html' ada`,
		Args: wantArgs("MOVE"),
		RunE: interruptible(func(ctx context.Context, args []string) error { return c.report(ctx, args[0], output) }),
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "`FILE` to write, - for standard output (default MOVE.html)")
	return cmd
}

func (c *cli) report(ctx context.Context, move, path string) error {
	r, err := c.client().MoveRecord(ctx, move)
	if err != nil {
		return err
	}
	var page bytes.Buffer
	if err := report.Write(&page, r, c.now()); err != nil {
		return err
	}
	if path == "-" {
		to := c.raw.out
		if c.outTerminal {
			to = c.out
		}
		_, err := page.WriteTo(to)
		return err
	}
	flags := os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	if path == "" {
		path = move + ".html"
		flags |= syscall.O_NOFOLLOW // the name can be guessed, and another user may have made a link
	}
	dir, err := c.getwd()
	if err != nil {
		return err
	}
	f, err := os.OpenFile(absolute(dir, path), flags, 0o666)
	if err != nil {
		return err
	}
	_, err = page.WriteTo(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.out, "%s\n", path)
	return err
}
