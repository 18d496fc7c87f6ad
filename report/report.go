package report

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"strings"
	"time"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/humanize"
	"github.com/migrate-hpc/migrate/printable"
)

//go:embed page.html
var page string

// Write writes the report of one move: a whole HTML page, dated made.
func Write(w io.Writer, r api.MoveRecord, made time.Time) error {
	t, err := template.New("report").Funcs(template.FuncMap{
		"size": humanize.Size,
		"span": humanize.Span,
		"rate": func(v float64) string { return humanize.Size(int64(v)) + "/s" },
		"at":   func(t time.Time) string { return t.Format("2006-01-02 15:04:05.000 -07:00") },
		"after": func(t time.Time) string {
			return fmt.Sprintf("%.3f s", t.Sub(r.Began).Seconds())
		},
		"frozen": func(t time.Time) bool { return frozen(r, t) },
	}).Parse(page)
	if err != nil {
		return err
	}
	var whole strings.Builder
	err = t.Execute(&whole, struct {
		api.MoveRecord
		Made    time.Time
		Facts   []fact
		Figures []figure
	}{r, made, facts(r), figures(r)})
	if err != nil {
		return fmt.Errorf("report of move %s: %w", r.Move, err)
	}
	_, err = io.WriteString(w, printable.Text(whole.String())) // a user may print it on a terminal
	return err
}

// fact is a number at the head of the page.
type fact struct{ Name, Value string }

func facts(r api.MoveRecord) []fact {
	var all []fact
	add := func(is bool, name, value string) {
		if is {
			all = append(all, fact{name, value})
		}
	}
	add(r.Downtime > 0, "downtime", humanize.Span(r.Downtime))
	add(r.Took > 0, "whole move", humanize.Span(r.Took))
	add(r.Memory > 0, "memory of the job", humanize.Size(r.Memory))
	add(r.Sent > 0, "on the wire", humanize.Size(r.Sent))
	add(r.Mode != "", "mode", string(r.Mode))
	add(len(r.Rounds) > 0, "warm-up rounds", fmt.Sprint(len(r.Rounds)))
	add(r.Residue > 0, "residue", humanize.Size(r.Residue))
	add(r.Pulled > 0, "pulled after the commit", humanize.Size(r.Pulled))
	add(r.Lanes > 0, "connections", fmt.Sprint(r.Lanes))
	return all
}
