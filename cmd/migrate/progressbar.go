package main

import (
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/printable"
)

// progressBar shows phase, bytes, rate and the remaining time.
type progressBar struct {
	bars  *mpb.Progress
	bar   *mpb.Bar
	phase atomic.Value // string
	sent  atomic.Int64
}

func newProgressBar(w io.Writer, options ...mpb.ContainerOption) *progressBar {
	p := &progressBar{}
	p.phase.Store("")
	options = append(options, mpb.WithOutput(w), mpb.WithWidth(64), mpb.WithRefreshRate(150*time.Millisecond))
	p.bars = mpb.New(options...)
	p.bar = p.bars.AddBar(0, mpb.BarRemoveOnComplete(),
		mpb.PrependDecorators(
			decor.Any(func(decor.Statistics) string { return fmt.Sprintf("%-9s ", p.phase.Load()) }),
			decor.Any(p.bytes),
		),
		mpb.AppendDecorators(
			decor.AverageSpeed(decor.SizeB1024(0), " % .1f"),
			decor.Name("  "),
			decor.OnComplete(decor.AverageETA(decor.ET_STYLE_GO), ""),
		))
	return p
}

func (p *progressBar) bytes(s decor.Statistics) string {
	return fmt.Sprintf("%s of %s, %s sent ", size(s.Current), size(s.Total), size(p.sent.Load()))
}

func (p *progressBar) show(e api.Event) {
	if e.Phase != "" {
		p.phase.Store(printable.Line(string(e.Phase)))
		if e.LowPriority {
			p.phase.Store(printable.Line(string(e.Phase)) + " at low priority: the processors are busy;")
		}
		if e.Phase == api.PhaseQueue {
			p.phase.Store(printable.Line(e.Note))
		}
	}
	if e.Note != "" {
		_, _ = fmt.Fprintln(p.bars, printable.Line(e.Note))
	}
	if e.Round != nil {
		_, _ = fmt.Fprintln(p.bars, printable.Line(roundLine(*e.Round))) // on the screen above the bar
	}
	if e.Sent > 0 {
		p.sent.Store(e.Sent)
	}
	if e.Total > 0 {
		p.bar.SetTotal(e.Total, false)
	}
	if e.Read > 0 {
		p.bar.SetCurrent(e.Read)
	}
}

// end removes the bar from the screen.
func (p *progressBar) end() {
	p.bar.Abort(true)
	p.bars.Wait()
}

// roundLine is a warm-up round in one line: what changed, what was sent, and the decision.
func roundLine(r api.Round) string {
	written := ""
	if r.DirtyRate > 0 {
		written = fmt.Sprintf(" (%s/s)", size(int64(r.DirtyRate)))
	}
	return fmt.Sprintf("round %d: %s of %s changed%s, %s sent in %s (%s/s): %s", r.Number,
		size(r.Dirty), size(r.Scanned), written, size(r.Wire), span(r.Took), size(int64(r.WireRate)), r.Reason)
}
