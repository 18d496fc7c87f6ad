package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/pidmap"
)

func newInspectCommand(s *shell) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "inspect [flags] JOB|MOVE",
		Short: "Show all about one job or move",
		Long: `Shows all that is known about a job, named by its id or name, wherever it is: its
processes with their pids on the node and in the job, its namespaces, its clocks,
and the nodes that it has been on. Of a move, named by its id, it shows how it went:
phases, rounds with their rates, and what the journals say; migrate moves --all lists
the ids.`,
		Example: `  migrate inspect sim
  migrate inspect --json sim
  migrate inspect m0123456789abcdef`,
		Args: takes("JOB|MOVE"),
		RunE: interruptible(func(ctx context.Context, args []string) error { return s.inspect(ctx, args[0], asJSON) }),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

func (s *shell) inspect(ctx context.Context, ref string, asJSON bool) error {
	found, err := s.find(ctx, ref)
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(s.out, found)
	}
	if m, ok := found.(api.MoveRecord); ok {
		return printMove(s.out, m)
	}
	return printJob(s.out, found.(api.Job))
}

// find looks up what a reference names: an api.MoveRecord or an api.Job, which may
// be called like a move.
func (s *shell) find(ctx context.Context, ref string) (any, error) {
	if _, err := handoff.ParseMoveID(ref); err != nil {
		return found(s.client().Inspect(ctx, ref))
	}
	m, err := s.client().MoveRecord(ctx, ref)
	var told *api.Error
	if errors.As(err, &told) && told.Code == api.CodeNotFound {
		if j, err := s.client().Inspect(ctx, ref); err == nil {
			return j, nil
		}
	}
	return found(m, err)
}

func found[T any](v T, err error) (any, error) { return v, err }

// printJob writes a table per subject.
func printJob(w io.Writer, j api.Job) error {
	var b bytes.Buffer
	t := newTable(&b)
	printFacts(t, j)
	printProcesses(t, j.Pids)
	if len(j.Namespaces) > 0 {
		t.heading("Namespaces")
	}
	for _, kind := range slices.Sorted(maps.Keys(j.Namespaces)) {
		t.row(inset(kind), j.Namespaces[kind])
	}
	if c := j.Clocks; c != nil {
		t.heading("Clocks")
		t.row(inset("CLOCK"), "IN THE JOB", "OFFSET TO THE NODE")
		t.row(inset("monotonic"), c.Monotonic, signed(c.MonotonicOffset))
		t.row(inset("boottime"), c.Boottime, signed(c.BoottimeOffset))
	}
	printStays(t, j.Placements)
	if err := t.flush(); err != nil {
		return err
	}
	_, err := b.WriteTo(w)
	return err
}

func printFacts(t table, j api.Job) {
	fact := func(name, value string) {
		if value != "" {
			t.row(name, value)
		}
	}
	s := j.Spec
	fact("Job", string(j.ID))
	fact("Name", s.Name)
	if j.Problem != "" { // all else is in the record
		fact("State", state(j)+" on "+place(j))
		printLive(fact, j)
		return
	}
	fact("State", fmt.Sprintf("%s on %s, epoch %d", state(j), place(j), j.Epoch))
	fact("Command", commandLine(s.Args))
	fact("User", fmt.Sprintf("%d:%d", s.UID, s.GID))
	fact("Started", instant(j.Created))
	if j.Exit != nil {
		fact("Ended", instant(j.Exit.At))
		fact("Because", j.Exit.Reason)
	}
	if j.Superseded != nil {
		fact("Because", superseded(j))
	}
	fact("Saved in", j.SavedIn)
	fact("Root", s.Root)
	fact("Directory", cmp.Or(s.WorkDir, "/"))
	fact("Stdout", cmp.Or(s.Stdout, "the job's log"))
	fact("Stderr", cmp.Or(s.Stderr, "the job's log"))
	if s.Network.Bridged() {
		fact("Network", s.Network.Mode+" "+s.Network.Address)
	}
	fact("Limits", limits(s.Limits))
	if own := s.Stdout == "" || s.Stderr == ""; own && s.OutputLimit > 0 {
		fact("Output", "at most "+size(s.OutputLimit)+" in the job's log")
	}
	fact("CPU time", span(j.CPU)+" over all nodes")
	printLive(fact, j)
}

// printLive tells what the kernel and the shim know of a job.
func printLive(fact func(name, value string), j api.Job) {
	if j.Memory > 0 {
		fact("Memory", size(j.Memory))
	}
	if j.Filled < j.Total {
		fact("Arriving", fmt.Sprintf("%s of %s of memory in place", size(j.Filled), size(j.Total)))
	}
	if j.Absent > 0 {
		fact("Pulling", fmt.Sprintf("%s still to come from %s", size(j.Absent), j.PulledFrom))
	}
	fact("Cgroup", j.CgroupDir)
	fact("Suspended in", j.SuspendedIn)
	fact("Damaged", j.Problem)
	if j.Tasks > 0 {
		fact("Processes", fmt.Sprintf("%d", j.Tasks))
	}
	if j.Shim != 0 {
		fact("Shim", fmt.Sprintf("pid %d", j.Shim))
	}
}

func limits(l job.Limits) string {
	var b bytes.Buffer
	for _, each := range []struct {
		value int64
		text  string
	}{
		{l.MemoryBytes, size(l.MemoryBytes) + " of memory"},
		{l.CPUMilli, fmt.Sprintf("%g CPUs", float64(l.CPUMilli)/1000)},
		{l.Pids, fmt.Sprintf("%d processes", l.Pids)},
	} {
		if each.value > 0 && b.Len() > 0 {
			b.WriteString(", ")
		}
		if each.value > 0 {
			b.WriteString(each.text)
		}
	}
	return b.String()
}

func printProcesses(t table, pids []pidmap.Entry) {
	if len(pids) == 0 {
		return
	}
	t.heading("Processes")
	t.row(inset("ON THE NODE"), "IN THE JOB", "STATE", "NAME")
	for _, p := range pids {
		t.row(inset(p.Host), p.Job, string(p.State), commandLine([]string{p.Comm}))
		for _, thread := range p.Threads {
			if thread.Host != p.Host {
				t.row(inset(thread.Host), thread.Job, "", "└ thread")
			}
		}
	}
}

func printStays(t table, stays []job.Placement) {
	if len(stays) == 0 {
		return
	}
	t.heading("Stays")
	t.row(inset("NODE"), "FROM", "TO", "EPOCH")
	for _, s := range stays {
		to := "now"
		if !s.To.IsZero() {
			to = instant(s.To)
		}
		t.row(inset(s.Node), instant(s.From), to, s.Epoch)
	}
}

func instant(t time.Time) string { return t.Format("2006-01-02 15:04:05.000 -07:00") }

func signed(d time.Duration) string {
	if d < 0 {
		return d.String()
	}
	return "+" + d.String()
}
