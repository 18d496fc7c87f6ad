package report

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/vg"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/humanize"
)

// figures are the pictures for which the record has data.
func figures(r api.MoveRecord) []figure {
	var all []figure
	if len(r.Phases) > 0 {
		all = append(all, timeline(r))
	}
	if r.Downtime > 0 && slices.ContainsFunc(r.Phases, func(s api.Span) bool { return frozen(r, s.Began) }) {
		all = append(all, downtime(r))
	}
	if len(r.Rounds) > 0 {
		all = append(all, rounds(r))
	}
	return all
}

// frozen tells whether the job was frozen when a phase began.
func frozen(r api.MoveRecord, at time.Time) bool {
	return !r.Frozen.IsZero() && !at.Before(r.Frozen) && (r.Resumed.IsZero() || at.Before(r.Resumed))
}

// The rows of the timeline, from below.
const (
	roundRow = iota
	phaseRow
	jobRow
)

func timeline(r api.MoveRecord) figure {
	after := func(t time.Time) float64 { return t.Sub(r.Began).Seconds() }
	end := max(r.Took.Seconds(), 1e-3)
	p := newPlot()
	rows := bars{{row: jobRow, to: end, fill: blue, inside: "runs on " + r.From}}
	if !r.Frozen.IsZero() {
		rows = jobBars(r, after(r.Frozen), after(r.Resumed), end)
		until := end
		if !r.Resumed.IsZero() {
			until = after(r.Resumed)
		}
		p.Add(band{after(r.Frozen), until, jobRow + 0.5, "downtime " + humanize.Span(r.Downtime)})
	}
	for _, s := range r.Phases {
		fill := blue
		switch {
		case frozen(r, s.Began):
			fill = red
		case !r.Resumed.IsZero() && !s.Began.Before(r.Resumed):
			fill = green
		}
		from := after(s.Began)
		rows = append(rows, bar{row: phaseRow, from: from, to: from + s.Took.Seconds(), fill: fill, inside: string(s.Phase)})
	}
	for i, n := range r.Rounds {
		fill := violet
		if i%2 == 1 {
			fill = grey
		}
		from := after(n.Began)
		rows = append(rows, bar{row: roundRow, from: from, to: from + n.Took.Seconds(), fill: fill, inside: strconv.Itoa(n.Number)})
	}
	p.Add(rows)
	p.NominalY("rounds", "phases", "job")
	withoutAxis(&p.Y)
	p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = 0, end, roundRow-0.5, jobRow+1
	p.X.Tick.Marker = plot.TickerFunc(evenTicks)
	p.X.Label.Text = "seconds since the move began"
	f := figure{Title: "The move", Legend: []swatch{legend(blue, "the job runs on "+r.From), legend(red, "it is frozen"), legend(green, "it runs on "+r.To)}}
	f.SVG = render(f.Title+": phases and rounds over time", []*plot.Plot{p}, []vg.Length{150})
	return f
}

// jobBars show on which node the job was.
func jobBars(r api.MoveRecord, frozen, resumed, end float64) bars {
	b := bars{{row: jobRow, to: frozen, fill: blue, inside: "runs on " + r.From}}
	if r.Resumed.IsZero() {
		return append(b, bar{row: jobRow, from: frozen, to: end, fill: red, inside: "frozen"})
	}
	b = append(b, bar{row: jobRow, from: frozen, to: resumed, fill: red})
	if r.State == api.MoveDone || r.State == api.MoveWaiting {
		return append(b, bar{row: jobRow, from: resumed, to: end, fill: green, inside: "runs on " + r.To})
	}
	return append(b, bar{row: jobRow, from: resumed, to: end, fill: blue, inside: "runs on " + r.From})
}

func downtime(r api.MoveRecord) figure {
	var in []api.Span
	for _, s := range r.Phases {
		if frozen(r, s.Began) {
			in = append(in, s)
		}
	}
	p := newPlot()
	var rows bars
	var names []string
	for i := range in {
		s := in[len(in)-1-i]
		from := milliseconds(s.Began.Sub(r.Frozen))
		to := min(from+milliseconds(s.Took), milliseconds(r.Downtime))
		rows = append(rows, bar{row: float64(i), from: from, to: to, fill: red, behind: humanize.Span(s.Took)})
		names = append(names, string(s.Phase))
	}
	p.Add(rows)
	p.NominalY(names...)
	withoutAxis(&p.Y)
	end := milliseconds(r.Downtime)
	if bound := milliseconds(maxDowntime(r)); bound < 4*end && r.Mode != api.ModeStopCopy {
		p.Add(limit{value: bound, vertical: true, name: "--max-downtime"})
		end = max(end, bound)
	}
	p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = 0, end*1.08, -0.6, float64(len(in))-0.2
	p.X.Tick.Marker = plot.TickerFunc(evenTicks)
	p.X.Label.Text = "milliseconds since the freeze"
	f := figure{Title: "The downtime", Caption: "What the " + humanize.Span(r.Downtime) + " were needed for."}
	f.SVG = render(f.Title+": its phases", []*plot.Plot{p}, []vg.Length{52 + vg.Length(len(in))*20})
	return f
}

// maxDowntime is the downtime that the user allowed.
func maxDowntime(r api.MoveRecord) time.Duration {
	return cmp.Or(r.Options.MaxDowntime, api.DefaultMaxDowntime)
}

func milliseconds(d time.Duration) float64 { return d.Seconds() * 1000 }

func rounds(r api.MoveRecord) figure {
	rates, forecast := newPlot(), newPlot()
	read, wire, dirty, next := make([]float64, 0), make([]float64, 0), make([]float64, 0), make([]float64, 0)
	for _, n := range r.Rounds {
		read, wire, dirty = append(read, n.ReadRate), append(wire, n.WireRate), append(dirty, n.DirtyRate)
		next = append(next, milliseconds(n.Forecast))
	}
	for i, s := range []columns{{values: read, fill: blue}, {values: wire, fill: green}, {values: dirty, fill: red}} {
		s.place, s.all = i, 3
		rates.Add(s)
	}
	low, high := valueRange(append(append(read, wire...), dirty...), 1<<20, 1<<30)
	rates.Y.Min, rates.Y.Max = low/2, high*1.5
	rates.Y.Scale, rates.Y.Tick.Marker = plot.LogScale{}, plot.TickerFunc(byteTicks)
	rates.Y.Label.Text = "bytes per second"

	forecast.Add(columns{values: next, fill: violet, all: 1})
	low, high = valueRange(next, 10, 100)
	bound := milliseconds(maxDowntime(r))
	forecast.Add(limit{value: bound, name: "--max-downtime"})
	low, high = min(low, bound), max(high, bound)
	forecast.Y.Min, forecast.Y.Max = low/2, high*2
	forecast.Y.Scale, forecast.Y.Tick.Marker = plot.LogScale{}, plot.TickerFunc(timeTicks)
	forecast.Y.Label.Text = "forecast"
	forecast.X.Label.Text = "warm-up round"

	for _, p := range []*plot.Plot{rates, forecast} {
		p.X.Min, p.X.Max = 0.5, float64(len(r.Rounds))+0.5
		p.X.Tick.Marker = plot.TickerFunc(roundTicks)
	}
	f := figure{Title: "The rounds", Legend: []swatch{legend(blue, "read"), legend(green, "sent on the wire"), legend(red, "dirtied by the job"), legend(violet, "forecast of the downtime")},
		Caption: "Memory is read, and what is new or has changed is sent, until the downtime that is left, the forecast, is short enough. Both scales are logarithmic."}
	f.SVG = render(f.Title+": rates and forecast", []*plot.Plot{rates, forecast}, []vg.Length{180, 140})
	return f
}

// valueRange is the range of the positive values, or low and high if there are none.
func valueRange(values []float64, low, high float64) (float64, float64) {
	least, most := math.Inf(1), math.Inf(-1)
	for _, v := range values {
		if v > 0 {
			least, most = min(least, v), max(most, v)
		}
	}
	if most < least {
		return low, high
	}
	return least, most
}

func byteTicks(low, high float64) (ticks []plot.Tick) {
	for unit := 1.0; unit <= high; unit *= 1024 {
		for _, n := range []float64{1, 10, 100} {
			if v := n * unit; v >= low && v <= high {
				ticks = append(ticks, plot.Tick{Value: v, Label: sizeLabel(v)})
			}
		}
	}
	return ticks
}

func sizeLabel(v float64) string {
	names := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	i := 0
	for v >= 1024 && i < len(names)-1 {
		v, i = v/1024, i+1
	}
	return fmt.Sprintf("%.0f %s", v, names[i])
}

// timeTicks marks 1, 2, 5, 10 ms and so on, or, over a wide range, 1, 10, 100 ms.
func timeTicks(low, high float64) (ticks []plot.Tick) {
	steps := []float64{1, 2, 5}
	if high > 200*low {
		steps = steps[:1]
	}
	for decade := 0.1; decade <= high; decade *= 10 {
		for _, n := range steps {
			if v := n * decade; v >= low && v <= high {
				ticks = append(ticks, plot.Tick{Value: v, Label: humanize.Span(time.Duration(math.Round(v*10)) * time.Millisecond / 10)})
			}
		}
	}
	return ticks
}

// evenTicks marks about ten round numbers.
func evenTicks(low, high float64) (ticks []plot.Tick) {
	step := math.Pow(10, math.Floor(math.Log10((high-low)/8)))
	for _, n := range []float64{2, 5, 10} {
		if (high-low)/step > 12 {
			step = n * math.Pow(10, math.Floor(math.Log10((high-low)/8)))
		}
	}
	for i := math.Ceil(low / step); i*step <= high; i++ {
		ticks = append(ticks, plot.Tick{Value: i * step, Label: strconv.FormatFloat(i*step, 'g', 6, 64)})
	}
	return ticks
}

// roundTicks marks every round, or, if there are many, every second, fifth, tenth.
func roundTicks(low, high float64) (ticks []plot.Tick) {
	step := 1
	for _, s := range []int{2, 5, 10, 20, 50, 100} {
		if (high-low)/float64(step) > 30 {
			step = s
		}
	}
	for n := 1; float64(n) < high; n++ {
		if n%step == 0 || step == 1 {
			ticks = append(ticks, plot.Tick{Value: float64(n), Label: strconv.Itoa(n)})
		}
	}
	return ticks
}
