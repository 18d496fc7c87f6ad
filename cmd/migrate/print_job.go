package main

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/pidmap"
)

// printJob writes a table per subject.
func printJob(w io.Writer, j api.Job) error {
	var b bytes.Buffer
	t := newTable(&b)
	printJobFacts(t, j)
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
	printPlacements(t, j.Placements)
	if err := t.flush(); err != nil {
		return err
	}
	_, err := b.WriteTo(w)
	return err
}

func printJobFacts(t table, j api.Job) {
	fact := func(name, value string) {
		if value != "" {
			t.row(name, value)
		}
	}
	s := j.Spec
	fact("Job", string(j.ID))
	fact("Name", s.Name)
	if j.Problem != "" { // the record has all else, and cannot be read
		fact("State", state(j)+" on "+nodeOf(j))
		printJobLive(fact, j)
		return
	}
	fact("State", fmt.Sprintf("%s on %s, epoch %d", state(j), nodeOf(j), j.Epoch))
	fact("Command", commandLine(s.Args))
	fact("User", fmt.Sprintf("%d:%d", s.UID, s.GID))
	fact("Started", instant(j.Created))
	if j.Exit != nil {
		fact("Ended", instant(j.Exit.At))
		fact("Because", j.Exit.Reason)
	}
	if killedForMemory(j) {
		fact("Because", outOfMemory(j))
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
	printJobLive(fact, j)
}

// printJobLive prints what the kernel and the shim know of a job.
func printJobLive(fact func(name, value string), j api.Job) {
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

func printPlacements(t table, stays []job.Placement) {
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
