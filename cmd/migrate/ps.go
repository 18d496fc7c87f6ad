package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/migrate-hpc/migrate/agent/api"
)

func newPsCommand(s *shell) *cobra.Command {
	var all, asJSON bool
	cmd := &cobra.Command{
		Use:   "ps [flags]",
		Short: "List jobs",
		Long: `Lists your jobs that this node knows, all users' for root: those that run here, and
those that have moved on, with the node that they moved to. Jobs that do not just run are

  frozen     on their way to another node      arriving  on their way to this one
  moved      on the node that NODE names       saved     in a directory (migrate restore)
  suspended  frozen by somebody else           astray    out of reach: their shim is gone
  lost       gone with the node or the shim    damaged   with a record that cannot be read

migrate inspect JOB tells more.`,
		Example: `  migrate ps
  migrate ps -a --json`,
		Args: takes(),
		RunE: interruptible(func(ctx context.Context, _ []string) error { return s.ps(ctx, all, asJSON) }),
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "list jobs that are over, too")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON array")
	return cmd
}

func (s *shell) ps(ctx context.Context, all, asJSON bool) error {
	jobs, err := s.client().Jobs(ctx)
	if err != nil {
		return err
	}
	if !all {
		jobs = slices.DeleteFunc(jobs, func(j api.Job) bool { return j.State == api.JobExited || j.State == api.JobLost })
	}
	if asJSON {
		err = printJSON(s.out, jobs)
	} else {
		err = printJobs(s.out, jobs, s.now())
	}
	if err != nil {
		return err
	}
	return damaged(jobs)
}

// damaged is the error for jobs of which nobody can tell how they are, nil if there are none.
func damaged(jobs []api.Job) error {
	var all []api.Finding
	for _, j := range jobs {
		if j.State == api.JobDamaged {
			all = append(all, api.Finding{Code: string(j.ID), Cause: j.Problem, Remedy: fmt.Sprintf("%d of its processes run; `migrate rm -f %s` ends and forgets it, or the operator puts the file right", j.Tasks, j.ID)})
		}
	}
	if len(all) == 0 {
		return nil
	}
	return &api.Error{Code: api.CodeDamaged, Message: "records of jobs are damaged", Findings: all}
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// maxCommand bounds the last column, in characters.
const maxCommand = 50

func printJobs(w io.Writer, jobs []api.Job, now time.Time) error {
	t := newTable(w)
	t.row("JOB", "NAME", "STATE", "NODE", "AGE", "COMMAND")
	for _, j := range jobs {
		t.row(j.ID, cmp.Or(j.Spec.Name, "-"), state(j), place(j), age(now, j.Created), clip(commandLine(j.Spec.Args), maxCommand))
	}
	return t.flush()
}
