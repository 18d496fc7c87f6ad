package main

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/criu"
)

func newExplainCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "explain LOG",
		Short: "Say what a log of CRIU means",
		Long: `Reads a log of CRIU, or standard input for -, and prints the code of the failure, its
cause, what to do about it, and the lines that tell of it. The agent keeps the logs of
failed moves, checkpoints and restores in criu-logs in its state directory.`,
		Example: `  migrate explain /var/lib/migrate/criu-logs/m7c0d36f29a6e1b04-dump.log
  ssh node-b cat restore.log | migrate explain -`,
		Args: wantArgs("LOG"),
		RunE: interruptible(func(_ context.Context, args []string) error { return c.explainLog(args[0]) }),
	}
}

func (c *cli) explainLog(name string) error {
	in := c.in
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	f := criu.DiagnoseText(io.LimitReader(in, maxExplained))
	if f.Code == "" {
		return &api.Error{Code: api.CodeFailed, Message: "the log tells of no error of CRIU's", Hint: "`migrate moves --all` tells how operations ended; `migrate inspect MOVE` tells more of one"}
	}
	err := printLine(c.out, "%s: %s", f.Code, f.Cause)
	for _, line := range append([]string{f.Remedy}, f.Lines...) {
		err = errors.Join(err, printLine(c.out, "    %s", line))
	}
	return err
}

// maxExplained bounds the log that is read, in bytes.
const maxExplained = 1 << 30
