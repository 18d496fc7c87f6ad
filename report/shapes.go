package report

import (
	"image/color"
	"math"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

func label(size vg.Length, c color.Color, x draw.XAlignment, y draw.YAlignment) draw.TextStyle {
	return draw.TextStyle{Color: c, Font: typeface(size), XAlign: x, YAlign: y, Handler: plot.DefaultTextHandler}
}

// bar is a range of a row, in data coordinates, with a word in or behind it.
type bar struct {
	row, from, to float64
	fill          color.Color
	inside        string // left out if there is no room
	behind        string
}

// bars is a plotter of rows of bars.
type bars []bar

const (
	thick  = 0.36 // half of a bar, in rows
	narrow = vg.Length(1.5)
	seam   = vg.Length(1) // between two bars
)

func (b bars) Plot(c draw.Canvas, p *plot.Plot) {
	x, y := p.Transforms(&c)
	for _, each := range b {
		left, right := x(each.from), max(x(each.to)-seam, x(each.from)+narrow)
		low, high := y(each.row-thick), y(each.row+thick)
		c.FillPolygon(each.fill, rectangle(left, low, right, high))
		in := label(10, onColour, draw.XCenter, draw.YCenter)
		if each.inside != "" && in.Width(each.inside)+4 < right-left {
			c.FillText(in, vg.Point{X: (left + right) / 2, Y: (low + high) / 2}, each.inside)
		}
		if each.behind != "" {
			c.FillText(label(10, ink, draw.XLeft, draw.YCenter), vg.Point{X: right + 5, Y: (low + high) / 2}, each.behind)
		}
	}
}

func (b bars) DataRange() (xmin, xmax, ymin, ymax float64) {
	xmin, xmax, ymin, ymax = math.Inf(1), math.Inf(-1), math.Inf(1), math.Inf(-1)
	for _, each := range b {
		xmin, xmax = min(xmin, each.from), max(xmax, each.to)
		ymin, ymax = min(ymin, each.row-0.5), max(ymax, each.row+0.5)
	}
	return xmin, xmax, ymin, ymax
}

func rectangle(left, low, right, high vg.Length) []vg.Point {
	return []vg.Point{{X: left, Y: low}, {X: right, Y: low}, {X: right, Y: high}, {X: left, Y: high}}
}

// band is a range of the x axis over the whole height, with a word above it.
type band struct {
	from, to float64
	top      float64 // on the y axis
	name     string
}

func (b band) Plot(c draw.Canvas, p *plot.Plot) {
	x, y := p.Transforms(&c)
	left, right := x(b.from), max(x(b.to), x(b.from)+narrow)
	c.FillPolygon(paleRed, rectangle(left, c.Min.Y, right, y(b.top)))
	for _, edge := range []vg.Length{left, right} {
		c.StrokeLine2(draw.LineStyle{Color: red, Width: 0.75}, edge, c.Min.Y, edge, y(b.top))
	}
	sty := label(10, red, draw.XCenter, draw.YBottom)
	half := sty.Width(b.name) / 2
	at := min(max((left+right)/2, c.Min.X+half), c.Max.X-half)
	c.FillText(sty, vg.Point{X: at, Y: y(b.top) + 2}, b.name)
}

// limit is a value that should not be passed: a dashed line with its name.
type limit struct {
	value    float64
	vertical bool
	name     string
}

func (l limit) Plot(c draw.Canvas, p *plot.Plot) {
	x, y := p.Transforms(&c)
	sty := draw.LineStyle{Color: ink, Width: 1, Dashes: []vg.Length{4, 3}}
	if l.vertical {
		at := x(l.value)
		c.StrokeLine2(sty, at, c.Min.Y, at, c.Max.Y)
		c.FillText(label(9, ink, draw.XRight, draw.YTop), vg.Point{X: at - 3, Y: c.Max.Y}, l.name)
		return
	}
	at := y(l.value)
	c.StrokeLine2(sty, c.Min.X, at, c.Max.X, at)
	c.FillText(label(9, ink, draw.XRight, draw.YBottom), vg.Point{X: c.Max.X, Y: at + 2}, l.name)
}

// columns are the values of one series at 1, 2, 3 …; several series stand side by
// side. A value of 0 has no column.
type columns struct {
	values     []float64
	fill       color.Color
	place, all int // this series' place among all
}

func (s columns) Plot(c draw.Canvas, p *plot.Plot) {
	x, y := p.Transforms(&c)
	const each = 0.26 // of the room between two rounds
	group := each * float64(s.all)
	for i, v := range s.values {
		if v <= 0 {
			continue
		}
		left := float64(i+1) - group/2 + float64(s.place)*each
		c.FillPolygon(s.fill, rectangle(x(left), c.Min.Y, max(x(left+each)-0.75, x(left)+0.75), y(v)))
	}
}
