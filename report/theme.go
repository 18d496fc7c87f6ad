package report

import (
	"bytes"
	"fmt"
	"html/template"
	"image/color"
	"regexp"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// Colours in the middle of the scale, which stand out on white and on black; ink is
// exchanged for the colour of the text around the picture.
var (
	ink      = color.NRGBA{1, 2, 3, 255}
	blue     = color.NRGBA{0x3b, 0x86, 0xc6, 255}
	green    = color.NRGBA{0x3f, 0x9a, 0x5a, 255}
	red      = color.NRGBA{0xd6, 0x4f, 0x2f, 255}
	violet   = color.NRGBA{0x8d, 0x69, 0xc4, 255}
	grey     = color.NRGBA{0x8a, 0x8f, 0x98, 255}
	paleRed  = color.NRGBA{0xd6, 0x4f, 0x2f, 50}
	onColour = color.NRGBA{255, 255, 255, 255}
)

// width of all pictures.
const width = vg.Length(760)

func typeface(size vg.Length) font.Font {
	return font.Font{Typeface: "Liberation", Variant: "Sans", Size: size}
}

// newPlot is an empty plot in the report's type and ink.
func newPlot() *plot.Plot {
	p := plot.New()
	p.BackgroundColor = nil
	for _, a := range []*plot.Axis{&p.X, &p.Y} {
		a.Label.TextStyle.Font, a.Label.TextStyle.Color = typeface(11), ink
		a.Tick.Label.Font, a.Tick.Label.Color = typeface(10), ink
		a.Color, a.Tick.Color = ink, ink
		a.Padding = 4
	}
	return p
}

// withoutAxis removes the line of an axis and keeps its labels.
func withoutAxis(a *plot.Axis) {
	a.LineStyle.Width, a.Tick.LineStyle.Width, a.Tick.Length = 0, 0, 0
}

// figure is a picture and what it says.
type figure struct {
	SVG     template.HTML
	Title   string
	Legend  []swatch
	Caption string
}

// swatch names a colour of a picture.
type swatch struct {
	Colour template.CSS
	Name   string
}

func legend(c color.NRGBA, name string) swatch {
	return swatch{template.CSS(fmt.Sprintf("#%02x%02x%02x", c.R, c.G, c.B)), name}
}

// Space beside the plots, for labels that another typeface makes wider.
const (
	leftEdge  = vg.Length(14)
	rightEdge = vg.Length(12)
)

// render draws plots of these heights beneath each other, their left edges in line.
func render(label string, plots []*plot.Plot, heights []vg.Length) template.HTML {
	var total vg.Length
	for _, h := range heights {
		total += h
	}
	c := vgsvg.New(width, total)
	whole := draw.Crop(draw.New(c), leftEdge, -rightEdge, 0, 0)
	grid := make([][]*plot.Plot, len(plots))
	for i := range plots {
		grid[i] = plots[i : i+1]
	}
	tiles := draw.Tiles{Rows: len(plots), Cols: 1}
	aligned := plot.Align(grid, tiles, whole)
	top := total
	for i, p := range plots {
		cell := aligned[i][0]
		cell.Min.Y, cell.Max.Y = top-heights[i], top
		p.Draw(cell)
		top -= heights[i]
	}
	var b bytes.Buffer
	_, _ = c.WriteTo(&b) // a buffer takes everything
	return inline(b.String(), label)
}

var (
	svgStart   = regexp.MustCompile(`(?s)^.*?<svg[^>]*viewBox="([^"]*)"[^>]*>`)
	fontFamily = regexp.MustCompile(`font-family:[^;"]*`)
)

// inline makes an SVG document a part of a page: no prologue, the page's width, ink
// and typeface.
func inline(svg, label string) template.HTML {
	svg = svgStart.ReplaceAllString(svg, fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="$1" role="img" aria-label="%s">`, template.HTMLEscapeString(label)))
	svg = strings.ReplaceAll(svg, "#010203", "currentColor")
	svg = fontFamily.ReplaceAllString(svg, "font-family:Arial,'Liberation Sans',sans-serif")
	return template.HTML(svg) // made by the canvas, which escapes all text
}
