package main

import (
	"cmp"
	"context"

	"github.com/spf13/cobra"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/exactjson"
)

// display is how a command shows the progress of a move, checkpoint or restore.
type display struct{ json, quiet bool }

func (d *display) flags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&d.json, "json", false, "print the events, one JSON object per line")
	cmd.Flags().BoolVarP(&d.quiet, "quiet", "q", false, "print nothing but errors")
}

// operation is a move, checkpoint or restore that reports its events.
type operation func(onEvent func(api.Event)) (*api.Result, error)

// showProgress runs an operation and shows its events: as JSON with --json, as a bar on a
// terminal, else not at all.
func (c *cli) showProgress(d display, do operation) (*api.Result, error) {
	if d.json {
		return c.printEvents(do)
	}
	if d.quiet || !c.errTerminal {
		return do(func(api.Event) {})
	}
	bar := newProgressBar(c.raw.err) // it draws, and escapes what it quotes
	defer bar.end()
	return do(bar.show)
}

func (c *cli) printEvents(do operation) (*api.Result, error) {
	out := exactjson.NewEncoder(c.out)
	var printErr error
	r, err := do(func(e api.Event) { printErr = cmp.Or(printErr, out.Encode(e)) })
	return r, cmp.Or(err, printErr)
}

// interrupted replaces err if the user interrupted the operation: it says where the job is.
func interrupted(ctx context.Context, err error, ref, what, where string) error {
	if ctx.Err() == nil {
		return err
	}
	return &api.Error{Code: api.CodeCancelled, Message: "interrupted; the agent calls " + what + " off", Where: where,
		Hint: "migrate inspect " + ref}
}

// cleanUpLeft is the error of an operation that succeeded and left something behind.
func cleanUpLeft(r *api.Result) error {
	if r.CleanupLeft == "" {
		return nil
	}
	return &api.Error{Code: api.CodeCleanupLeft, Message: "something was left behind: " + r.CleanupLeft, Where: "runs on " + r.Node + ", not affected"}
}
