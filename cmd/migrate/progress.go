package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/printable"
)

// display is how a command shows what it waits for.
type display struct{ json, quiet bool }

func (d *display) flags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&d.json, "json", false, "print the events, one JSON object per line")
	cmd.Flags().BoolVarP(&d.quiet, "quiet", "q", false, "print nothing but errors")
}

// watch shows the events of do: as they are with --json, as a bar on a terminal,
// else not at all.
func (s *shell) watch(d display, do func(tell func(api.Event)) (*api.Result, error)) (*api.Result, error) {
	if d.json {
		return s.watchJSON(do)
	}
	if d.quiet || !s.terminal {
		return do(func(api.Event) {})
	}
	m := newMeter(s.raw.err) // which draws; what others say it guards itself
	defer m.end()
	return do(m.show)
}

func (s *shell) watchJSON(do func(tell func(api.Event)) (*api.Result, error)) (*api.Result, error) {
	out := json.NewEncoder(s.out)
	var broken error
	r, err := do(func(e api.Event) { broken = cmp.Or(broken, out.Encode(e)) })
	if err == nil {
		err = broken
	}
	return r, err
}

// meter is a bar with phase, bytes, rate and the time that is left.
type meter struct {
	bars  *mpb.Progress
	bar   *mpb.Bar
	phase atomic.Value // string
	sent  atomic.Int64
}

func newMeter(w io.Writer, options ...mpb.ContainerOption) *meter {
	m := &meter{}
	m.phase.Store("")
	options = append(options, mpb.WithOutput(w), mpb.WithWidth(64), mpb.WithRefreshRate(150*time.Millisecond))
	m.bars = mpb.New(options...)
	m.bar = m.bars.AddBar(0, mpb.BarRemoveOnComplete(),
		mpb.PrependDecorators(
			decor.Any(func(decor.Statistics) string { return fmt.Sprintf("%-9s ", m.phase.Load()) }),
			decor.Any(m.bytes),
		),
		mpb.AppendDecorators(
			decor.AverageSpeed(decor.SizeB1024(0), " % .1f"),
			decor.Name("  "),
			decor.OnComplete(decor.AverageETA(decor.ET_STYLE_GO), ""),
		))
	return m
}

func (m *meter) bytes(s decor.Statistics) string {
	return fmt.Sprintf("%s of %s, %s sent ", size(s.Current), size(s.Total), size(m.sent.Load()))
}

func (m *meter) show(e api.Event) {
	if e.Phase != "" {
		m.phase.Store(printable.Line(string(e.Phase)))
		if e.LowPriority {
			m.phase.Store(printable.Line(string(e.Phase)) + ", in turns with jobs: the processors are busy;")
		}
		if e.Phase == api.PhaseQueue {
			m.phase.Store(printable.Line(e.Note))
		}
	}
	if e.Note != "" {
		_, _ = fmt.Fprintln(m.bars, printable.Line(e.Note))
	}
	if e.Round != nil {
		_, _ = fmt.Fprintln(m.bars, printable.Line(roundLine(*e.Round))) // on the screen above the bar
	}
	if e.Sent > 0 {
		m.sent.Store(e.Sent)
	}
	if e.Total > 0 {
		m.bar.SetTotal(e.Total, false)
	}
	if e.Read > 0 {
		m.bar.SetCurrent(e.Read)
	}
}

// end takes the bar off the screen.
func (m *meter) end() {
	m.bar.Abort(true)
	m.bars.Wait()
}

// roundLine is a warm-up round in one line: what the job wrote, what crossed the wire,
// and what follows from that.
func roundLine(r api.Round) string {
	written := ""
	if r.DirtyRate > 0 {
		written = fmt.Sprintf(" (%s/s)", size(int64(r.DirtyRate)))
	}
	return fmt.Sprintf("round %d: %s of %s changed%s, %s sent in %s (%s/s): %s", r.Number,
		size(r.Dirty), size(r.Scanned), written, size(r.Wire), span(r.Took), size(int64(r.WireRate)), r.Reason)
}
