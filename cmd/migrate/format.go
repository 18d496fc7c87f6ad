package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/humanize"
)

func size(n int64) string { return humanize.Size(n) }

func span(d time.Duration) string { return humanize.Span(d) }

// age shows the time since t by its largest unit.
func age(now, t time.Time) string {
	d := now.Sub(t)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", max(0, d/time.Second))
	case d < time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dd", d/(24*time.Hour))
}

// label is what a person calls a job.
func label(j api.Job) string {
	if j.Spec.Name != "" {
		return j.Spec.Name
	}
	return string(j.ID)
}

// commandLine shows arguments on one line; what a shell or a terminal would take
// amiss is quoted.
func commandLine(args []string) string {
	shown := make([]string, len(args))
	for i, a := range args {
		shown[i] = a
		special := func(r rune) bool { return !unicode.IsPrint(r) || strings.ContainsRune(" \"'\\$`*?&|;<>(){}[]#~!", r) }
		if a == "" || strings.ContainsFunc(a, special) {
			shown[i] = strconv.Quote(a)
		}
	}
	return strings.Join(shown, " ")
}

// clip shortens s to at most n characters.
func clip(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}

// state is a job's state in a word or two.
func state(j api.Job) string {
	if j.State != api.JobExited || j.Exit == nil {
		return string(j.State)
	}
	if j.Exit.Reason != "" {
		return "exited (output limit)"
	}
	if j.Superseded != nil {
		return "exited (superseded)"
	}
	if j.Exit.Signal != 0 {
		return fmt.Sprintf("exited (%s)", signalName(j.Exit.Signal))
	}
	return fmt.Sprintf("exited (%d)", j.Exit.Code)
}

func signalName(n int) string {
	if name := unix.SignalName(unix.Signal(n)); name != "" {
		return name
	}
	return "signal " + strconv.Itoa(n)
}
