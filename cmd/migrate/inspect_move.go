package main

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/migrate-hpc/migrate/agent/api"
)

// printMove writes a table per subject.
func printMove(w io.Writer, r api.MoveRecord) error {
	var b bytes.Buffer
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	printMoveFacts(t, r)
	printPhases(t, r)
	printRounds(t, r.Rounds)
	printSteps(t, r.Steps)
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := b.WriteTo(w)
	return err
}

func printMoveFacts(w io.Writer, r api.MoveRecord) {
	fact := func(name, format string, values ...any) { fmt.Fprintf(w, name+"\t"+format+"\n", values...) }
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
		fact("Reason", "%s", indented(r.Error.Message))
		for _, f := range r.Error.Findings {
			fact("", "%s: %s", f.Code, f.Cause)
		}
	}
	if r.CleanupLeft != "" {
		fact("Left behind", "%s", indented(r.CleanupLeft))
	}
	if !r.Began.IsZero() {
		fact("Began", "%s", instant(r.Began))
		fact("Took", "%s", span(r.Took))
	}
	if r.StoodStill > 0 {
		fact("Stood still", "%s", span(r.StoodStill))
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
	size64("Read", r.Read)
	size64("Residue", r.Residue)
	size64("Pulled", r.Pulled)
	size64("Sent", r.Sent)
	if r.Lanes > 0 {
		fact("Connections", "%d for data", r.Lanes)
	}
	if r.Partial != "" {
		fact("Not all", "%s", indented(r.Partial))
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
		{o.Bandwidth > 0, "--bandwidth " + size(o.Bandwidth) + "/s"},
	} {
		if each.set {
			f = append(f, each.text)
		}
	}
	return strings.Join(f, " ")
}

func printPhases(w io.Writer, r api.MoveRecord) {
	if len(r.Phases) == 0 {
		return
	}
	fmt.Fprint(w, "\nPhases\n  PHASE\tAFTER\tTOOK\tTHE JOB\n")
	for _, p := range r.Phases {
		job := "runs"
		if !r.Frozen.IsZero() && !p.Began.Before(r.Frozen) && (r.Resumed.IsZero() || p.Began.Before(r.Resumed)) {
			job = "stands still"
		}
		fmt.Fprintf(w, "  %s\t%.3f s\t%s\t%s\n", p.Phase, p.Began.Sub(r.Began).Seconds(), span(p.Took), job)
	}
}

func printRounds(w io.Writer, rounds []api.Round) {
	if len(rounds) == 0 {
		return
	}
	fmt.Fprint(w, "\nRounds\n  ROUND\tTOOK\tLOOKED AT\tDIRTY\tZERO\tSENT BEFORE\tWIRE\tDIRTY/s\tREAD/s\tWIRE/s\tFORECAST\tCPU\tREASON\n")
	for _, n := range rounds {
		fmt.Fprintf(w, "  %d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", n.Number, span(n.Took), size(n.Looked), size(n.Dirty), size(n.Zero), size(n.Duplicate),
			size(n.Wire), size(int64(n.DirtyRate)), size(int64(n.ReadRate)), size(int64(n.WireRate)), span(n.Forecast), cpu(n.CPU), cmp.Or(oneLine(n.Reason), "-"))
	}
}

func cpu(percent int64) string {
	if percent <= 0 || percent >= 100 {
		return "-"
	}
	return fmt.Sprintf("%d%%", percent)
}

func printSteps(w io.Writer, steps []api.MoveStep) {
	if len(steps) == 0 {
		return
	}
	fmt.Fprint(w, "\nJournal\n  NODE\tROLE\tSTATE\tAT\tNOTE\n")
	for _, s := range steps {
		fmt.Fprintf(w, "  %s\t%s\t%s\t%s\t%s\n", s.Node, s.Role, s.State, instant(s.At), cmp.Or(oneLine(s.Note), "-"))
	}
}

// indented keeps the lines of a message below each other in the second column.
func indented(s string) string { return strings.ReplaceAll(strings.TrimSpace(s), "\n", "\n\t") }

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
