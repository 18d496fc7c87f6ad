package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/migrate-hpc/migrate/exactjson"
	"github.com/migrate-hpc/migrate/printable"
)

// table aligns cells. The text of a cell may be a user's; escaping keeps it in the cell.
type table struct{ w *tabwriter.Writer }

func newTable(w io.Writer) table { return table{tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)} }

func (t table) row(cells ...any) {
	shown := make([]string, len(cells))
	for i, c := range cells {
		shown[i] = printable.Line(fmt.Sprint(c))
	}
	fmt.Fprintln(t.w, strings.Join(shown, "\t"))
}

// heading begins a part of a table that lies below it, as rows do whose first cell is inset.
func (t table) heading(title string) { fmt.Fprintf(t.w, "\n%s\n", title) }

// fact is a row whose second cell may have several lines.
func (t table) fact(name, text string) {
	for line := range strings.SplitSeq(strings.TrimSpace(text), "\n") {
		t.row(name, line)
		name = ""
	}
}

func (t table) flush() error { return t.w.Flush() }

// inset is the first cell of a row below a heading.
func inset(v any) string { return fmt.Sprint("  ", v) }

func printJSON(w io.Writer, v any) error {
	e := exactjson.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// printLine prints one line: it escapes line breaks in the arguments.
func printLine(w io.Writer, format string, args ...any) error {
	_, err := fmt.Fprintln(w, printable.Line(fmt.Sprintf(format, args...)))
	return err
}

// indented indents all lines of s but the first. Only lines of this program begin at the left,
// so that a path with a line break cannot forge one.
func indented(s string) string { return strings.ReplaceAll(s, "\n", "\n  ") }
