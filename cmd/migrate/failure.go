package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/printable"
)

// exitStatus is a job's own exit status, passed on without a word.
type exitStatus int

func (e exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// usageError is a command line that makes no sense.
type usageError struct {
	cmd *cobra.Command
	err error
}

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usage(cmd *cobra.Command, err error) error { return &usageError{cmd, err} }

// exitCode is the one place that turns an error into an exit status.
func exitCode(err error) int {
	var status exitStatus
	var wrong *usageError
	var told *api.Error
	switch {
	case errors.As(err, &status):
		return int(status)
	case errors.As(err, &wrong):
		return api.ExitUsage
	case errors.As(err, &told):
		return api.ExitStatus(err)
	case errors.Is(err, context.Canceled):
		return api.ExitCancelled
	}
	return api.ExitStatus(err)
}

// printFailure says what happened and why, where the job is, and what to do.
func printFailure(w io.Writer, err error) {
	var status exitStatus
	var wrong *usageError
	var told *api.Error
	switch {
	case err == nil, errors.As(err, &status):
	case errors.As(err, &wrong):
		fmt.Fprintf(w, "migrate: %s\nusage: %s\ntry: %s --help\n", inner(err.Error()), wrong.cmd.UseLine(), wrong.cmd.CommandPath())
	case errors.As(err, &told):
		printTold(w, told)
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(w, "migrate: interrupted")
	default:
		fmt.Fprintf(w, "migrate: %s\n", inner(err.Error()))
	}
}

func printTold(w io.Writer, e *api.Error) {
	fmt.Fprintf(w, "migrate: %s\n", inner(e.Message))
	if e.Where != "" {
		fmt.Fprintf(w, "the job: %s\n", inner(e.Where))
	}
	for _, f := range e.Findings {
		fmt.Fprintf(w, "  %s: %s\n", printable.Line(f.Code), printable.Line(f.Cause))
		if f.Remedy != "" {
			fmt.Fprintf(w, "      %s\n", printable.Line(f.Remedy))
		}
	}
	if e.Hint != "" {
		fmt.Fprintf(w, "try: %s\n", inner(e.Hint))
	}
}

// printLine prints one line, whatever the words in it are.
func printLine(w io.Writer, format string, args ...any) error {
	_, err := fmt.Fprintln(w, printable.Line(fmt.Sprintf(format, args...)))
	return err
}

// inner sets off what a message quotes: only our own lines begin at the left, so that a path with
// a line break in it says nothing in our name, least of all what to type.
func inner(s string) string { return strings.ReplaceAll(s, "\n", "\n  ") }

// invalid lists everything that is wrong with a specification.
func invalid(err error) error {
	return &api.Error{
		Code: api.CodeUsage, Message: "the job cannot be started as asked",
		Findings: specFindings(err), Hint: "migrate run --help",
	}
}

func specFindings(err error) []api.Finding {
	var many interface{ Unwrap() []error }
	var one *job.SpecError
	switch {
	case errors.As(err, &many):
		var all []api.Finding
		for _, each := range many.Unwrap() {
			all = append(all, specFindings(each)...)
		}
		return all
	case errors.As(err, &one):
		return []api.Finding{{Code: one.Field, Cause: one.Problem, Remedy: one.Remedy}}
	}
	return []api.Finding{{Code: "spec", Cause: err.Error()}}
}
