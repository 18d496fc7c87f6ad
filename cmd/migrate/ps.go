package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/migrate-hpc/migrate/agent/api"
)

func newPsCommand(c *cli) *cobra.Command {
	var all, asJSON bool
	cmd := &cobra.Command{
		Use:   "ps [flags]",
		Short: "List jobs",
		Long: `Lists your jobs that run here, and those that have moved on, with the node that they
moved to. Root sees the jobs of all users. A job that is not running is

  frozen     on its way to another node        arriving  on its way to this one
  moved      on the node that NODE names       saved     in a directory (migrate restore)
  suspended  frozen, and not by migrate        astray    out of reach: its shim is gone
  lost       gone with the node or the shim    damaged   one with an unreadable record

migrate inspect JOB tells more.`,
		Example: `  migrate ps
  migrate ps -a --json`,
		Args: wantArgs(),
		RunE: interruptible(func(ctx context.Context, _ []string) error { return c.ps(ctx, all, asJSON) }),
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "list jobs that are over, too")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON array")
	return cmd
}

func (c *cli) ps(ctx context.Context, all, asJSON bool) error {
	jobs, err := c.client().Jobs(ctx)
	if err != nil {
		return err
	}
	if !all {
		jobs = slices.DeleteFunc(jobs, func(j api.Job) bool { return j.State == api.JobExited || j.State == api.JobLost })
	}
	if asJSON {
		err = printJSON(c.out, jobs)
	} else {
		err = printJobs(c.out, jobs, c.now())
	}
	if err != nil {
		return err
	}
	return damagedRecords(jobs)
}

// damagedRecords is the error for jobs whose records cannot be read, nil if there are none.
func damagedRecords(jobs []api.Job) error {
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

// maxCommand bounds the last column, in characters.
const maxCommand = 50

func printJobs(w io.Writer, jobs []api.Job, now time.Time) error {
	t := newTable(w)
	t.row("JOB", "NAME", "STATE", "NODE", "AGE", "COMMAND")
	for _, j := range jobs {
		t.row(j.ID, cmp.Or(j.Spec.Name, "-"), state(j), nodeOf(j), age(now, j.Created), clip(commandLine(j.Spec.Args), maxCommand))
	}
	return t.flush()
}
