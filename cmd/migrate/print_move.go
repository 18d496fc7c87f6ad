package main

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"strings"

	"github.com/migrate-hpc/migrate/agent/api"
)

// printMove writes a table per subject.
func printMove(w io.Writer, r api.MoveRecord) error {
	var b bytes.Buffer
	t := newTable(&b)
	printMoveFacts(t, r)
	printPhases(t, r)
	printRounds(t, r.Rounds)
	printSteps(t, r.Steps)
	if err := t.flush(); err != nil {
		return err
	}
	_, err := b.WriteTo(w)
	return err
}

func printMoveFacts(t table, r api.MoveRecord) {
	fact := func(name, format string, values ...any) { t.fact(name, fmt.Sprintf(format, values...)) }
	size64 := func(name string, n int64) {
		if n > 0 {
			fact(name, "%s", size(n))
		}
	}
	fact("Move", "%s", r.Move)
	if r.Name != "" {
		fact("Job", "%s (%s)", r.Job, r.Name)
	} else {
		fact("Job", "%s", r.Job)
	}
	fact("From, to", "%s → %s, epoch %d", r.From, r.To, r.Epoch)
	fact("State", "%s", r.State)
	if r.WaitFor != "" {
		fact("Waits for", "%s", r.WaitFor)
	}
	if r.Error != nil {
		fact("Reason", "%s", r.Error.Message)
		for _, f := range r.Error.Findings {
			t.row("", f.Code+": "+f.Cause)
		}
	}
	if r.CleanupLeft != "" {
		fact("Left behind", "%s", r.CleanupLeft)
	}
	if !r.Began.IsZero() {
		fact("Began", "%s", instant(r.Began))
		fact("Took", "%s", span(r.Took))
	}
	if r.Downtime > 0 {
		fact("Downtime", "%s", span(r.Downtime))
	}
	if r.Mode != "" {
		fact("Mode", "%s", r.Mode)
	}
	if o := options(r.Options); o != "" {
		fact("Options", "%s", o)
	}
	size64("Memory", r.Memory)
	if r.CopyOnWrite > 0 && !r.Options.Eager {
		fact("Copies", "%s more than before, of memory that was shared by copy-on-write", size(r.CopyOnWrite))
	}
	if r.Affinity != "" {
		fact("Processors", "%s", r.Affinity)
	}
	size64("Read", r.Read)
	size64("Residue", r.Residue)
	size64("Pulled", r.Pulled)
	size64("Sent", r.Sent)
	if r.Lanes > 0 {
		fact("Connections", "%d for data", r.Lanes)
	}
	if r.Partial != "" {
		fact("Not all", "%s", r.Partial)
	}
}

// options are the flags that the move was given.
func options(o api.MoveOptions) string {
	var f []string
	for _, each := range []struct {
		set  bool
		text string
	}{
		{o.MaxDowntime > 0, "--max-downtime " + o.MaxDowntime.String()},
		{o.Throttle, "--throttle"}, {o.PostCopy, "--post-copy"}, {o.Force, "--force"}, {o.StopCopy, "--stop-copy"},
		{o.Eager, "--eager"}, {o.Verify, "--verify"},
		{o.Affinity != "", "--affinity " + string(o.Affinity)},
		{o.Bandwidth > 0, "--bandwidth " + size(o.Bandwidth) + "/s"},
	} {
		if each.set {
			f = append(f, each.text)
		}
	}
	return strings.Join(f, " ")
}

func printPhases(t table, r api.MoveRecord) {
	if len(r.Phases) == 0 {
		return
	}
	t.heading("Phases")
	t.row(inset("PHASE"), "AFTER", "TOOK", "THE JOB")
	for _, p := range r.Phases {
		job := "runs"
		if !r.Frozen.IsZero() && !p.Began.Before(r.Frozen) && (r.Resumed.IsZero() || p.Began.Before(r.Resumed)) {
			job = "frozen"
		}
		t.row(inset(p.Phase), fmt.Sprintf("%.3f s", p.Began.Sub(r.Began).Seconds()), span(p.Took), job)
	}
}

func printRounds(t table, rounds []api.Round) {
	if len(rounds) == 0 {
		return
	}
	t.heading("Rounds")
	t.row(inset("ROUND"), "TOOK", "LOOKED AT", "DIRTY", "ZERO", "SENT BEFORE", "WIRE", "DIRTY/s", "READ/s", "WIRE/s", "FORECAST", "CPU", "REASON")
	for _, n := range rounds {
		t.row(inset(n.Number), span(n.Took), size(n.Scanned), size(n.Dirty), size(n.Zero), size(n.Duplicate),
			size(n.Wire), size(int64(n.DirtyRate)), size(int64(n.ReadRate)), size(int64(n.WireRate)), span(n.Forecast), cpu(n.CPU), cmp.Or(oneLine(n.Reason), "-"))
	}
}

func cpu(percent int64) string {
	if percent <= 0 || percent >= 100 {
		return "-"
	}
	return fmt.Sprintf("%d%%", percent)
}

func printSteps(t table, steps []api.MoveStep) {
	if len(steps) == 0 {
		return
	}
	t.heading("Journal")
	t.row(inset("NODE"), "ROLE", "STATE", "AT", "NOTE")
	for _, s := range steps {
		t.row(inset(s.Node), s.Role, s.State, instant(s.At), cmp.Or(oneLine(s.Note), "-"))
	}
}
