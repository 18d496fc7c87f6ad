package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/printable"
)

// exitStatus is a job's own exit status. The command returns it and prints nothing.
type exitStatus int

func (e exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// exitCode is the one place that turns an error into an exit status.
func exitCode(err error) int {
	var status exitStatus
	var usageErr *usageError
	var apiErr *api.Error
	switch {
	case errors.As(err, &status):
		return int(status)
	case errors.As(err, &usageErr):
		return api.ExitUsage
	case errors.As(err, &apiErr):
		return api.ExitStatus(err)
	case errors.Is(err, context.Canceled):
		return api.ExitCancelled
	}
	return api.ExitStatus(err)
}

// printFailure prints what happened and why, where the job is, and what to do.
func printFailure(w io.Writer, err error) {
	var status exitStatus
	var usageErr *usageError
	var apiErr *api.Error
	switch {
	case err == nil, errors.As(err, &status):
	case errors.As(err, &usageErr):
		fmt.Fprintf(w, "migrate: %s\nusage: %s\ntry: %s --help\n", indented(err.Error()), usageErr.cmd.UseLine(), usageErr.cmd.CommandPath())
	case errors.As(err, &apiErr):
		printAPIError(w, apiErr)
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(w, "migrate: interrupted")
	default:
		fmt.Fprintf(w, "migrate: %s\n", indented(err.Error()))
	}
}

func printAPIError(w io.Writer, e *api.Error) {
	fmt.Fprintf(w, "migrate: %s\n", indented(e.Message))
	if e.Where != "" {
		fmt.Fprintf(w, "the job: %s\n", indented(e.Where))
	}
	for _, f := range e.Findings {
		fmt.Fprintf(w, "  %s: %s\n", printable.Line(f.Code), printable.Line(f.Cause))
		if f.Remedy != "" {
			fmt.Fprintf(w, "      %s\n", printable.Line(f.Remedy))
		}
	}
	if e.Hint != "" {
		fmt.Fprintf(w, "try: %s\n", indented(e.Hint))
	}
}

// invalidSpec lists all mistakes of a specification.
func invalidSpec(err error) error {
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
