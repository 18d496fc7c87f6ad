package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"golang.org/x/sys/unix"

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

func instant(t time.Time) string { return t.Format("2006-01-02 15:04:05.000 -07:00") }

func signed(d time.Duration) string {
	if d < 0 {
		return d.String()
	}
	return "+" + d.String()
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

func signalName(n int) string {
	if name := unix.SignalName(unix.Signal(n)); name != "" {
		return name
	}
	return "signal " + strconv.Itoa(n)
}
