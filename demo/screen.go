package demo

import (
	"fmt"
	"io"
	"strings"
	"time"
)

const (
	width  = 80
	margin = "   "
)

// screen is the demo's output. On a terminal headings are bold, and a status line is
// replaced by the next line; elsewhere there are neither.
type screen struct {
	w           io.Writer
	terminal    bool
	statusShown bool // the terminal shows a status line
}

func (s *screen) line(text string) {
	s.wipe()
	fmt.Fprintln(s.w, strings.TrimRight(text, " "))
}

func (s *screen) heading(text string) {
	if s.terminal {
		text = "\x1b[1m" + text + "\x1b[0m"
	}
	s.line("")
	s.line(text)
}

// say prints a sentence or two, wrapped.
func (s *screen) say(format string, args ...any) {
	for _, l := range wrap(fmt.Sprintf(format, args...), width-len(margin)) {
		s.line(margin + l)
	}
}

// status shows a line on a terminal until the next one.
func (s *screen) status(text string) {
	if !s.terminal {
		return
	}
	fmt.Fprintf(s.w, "\r\x1b[K%s%.*s", margin, width-len(margin), text)
	s.statusShown = true
}

func (s *screen) wipe() {
	if s.statusShown {
		fmt.Fprint(s.w, "\r\x1b[K")
		s.statusShown = false
	}
}

func wrap(text string, most int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len(line)+1+len(word) > most {
			lines = append(lines, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}

// grid aligns cells in columns, two spaces apart; those of right, by number, to
// the right.
func grid(rows [][]string, right ...int) []string {
	var widths []int
	for _, r := range rows {
		for i, c := range r {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], len(c))
		}
	}
	flip := map[int]int{}
	for _, i := range right {
		flip[i] = 1
	}
	var lines []string
	for _, r := range rows {
		var b strings.Builder
		for i, c := range r {
			fmt.Fprintf(&b, "%*s  ", widths[i]*(2*flip[i]-1), c)
		}
		lines = append(lines, strings.TrimRight(b.String(), " "))
	}
	return lines
}

func mebibytes(n int64) string {
	if n%(1<<20) == 0 {
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.3f s", d.Seconds()) }
