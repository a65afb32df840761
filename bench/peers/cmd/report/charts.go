package main

import (
	"bytes"
	"cmp"
	"fmt"
	"image/color"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

var (
	blue = color.RGBA{R: 0x1f, G: 0x5f, B: 0xa8, A: 0xff}
	gray = color.RGBA{R: 0xa8, G: 0xb0, B: 0xb8, A: 0xff}
	red  = color.RGBA{R: 0xc0, G: 0x39, B: 0x2b, A: 0xff}
)

// writeCharts writes verify.svg and bytes.svg.
func writeCharts(dir string, m *measurements) error {
	for name, chart := range map[string]func(*measurements) (*plot.Plot, error){
		"verify.svg": verifyChart,
		"bytes.svg":  bytesChart,
	} {
		p, err := chart(m)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := save(p, filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// save leaves a margin around the chart, into which text may reach.
func save(p *plot.Plot, name string) error {
	const margin = 10
	svg := vgsvg.New(18*vg.Centimeter, 11*vg.Centimeter)
	canvas := draw.New(svg)
	canvas.SetColor(color.White)
	canvas.Fill(canvas.Rectangle.Path())
	p.Draw(draw.Crop(canvas, margin, -margin, margin, -margin))
	var b bytes.Buffer
	if _, err := svg.WriteTo(&b); err != nil {
		return err
	}
	return os.WriteFile(name, b.Bytes(), 0o644)
}

func newChart(title string) *plot.Plot {
	p := plot.New()
	p.Title.Text = title
	p.Title.Padding = vg.Points(8)
	p.Legend.Padding = vg.Points(3)
	for _, style := range []*text.Style{
		&p.Title.TextStyle, &p.Legend.TextStyle,
		&p.X.Label.TextStyle, &p.X.Tick.Label,
		&p.Y.Label.TextStyle, &p.Y.Tick.Label,
	} {
		style.Font.Variant = "Sans"
	}
	return p
}

// A bar is one library's.
type bar struct {
	name  string
	ratio float64
}

// verifyBars are in the order in which they stand, from below.
func verifyBars(m *measurements) []bar {
	var bars []bar
	for _, name := range m.children("Verify/") {
		bars = append(bars, bar{name, m.time("Verify/"+name+"/small", "Verify/"+ours+"/small")})
	}
	slices.SortStableFunc(bars, func(a, b bar) int { return cmp.Compare(b.ratio, a.ratio) })
	return bars
}

// verifyChart shows how long libraries take to verify the small claims. A few
// take a hundred times as long as the fastest, so the numbers stand beside.
func verifyChart(m *measurements) (*plot.Plot, error) {
	p := newChart("Time to verify a small token (chattoken = 1)")
	bars := verifyBars(m)
	names := make([]string, len(bars))
	numbers := plotter.XYLabels{}
	for i, b := range bars {
		values := make(plotter.Values, i+1) // the others have no length
		values[i] = b.ratio
		chart, err := plotter.NewBarChart(values, vg.Points(11))
		if err != nil {
			return nil, err
		}
		chart.Horizontal, chart.Color, chart.LineStyle.Width = true, gray, 0
		if b.name == ours {
			chart.Color = blue
		}
		p.Add(chart)
		names[i] = label(b.name)
		numbers.XYs = append(numbers.XYs, plotter.XY{X: b.ratio, Y: float64(i)})
		numbers.Labels = append(numbers.Labels, number(b.ratio))
	}
	return p, labelBars(p, names, numbers)
}

func labelBars(p *plot.Plot, names []string, numbers plotter.XYLabels) error {
	labels, err := plotter.NewLabels(numbers)
	if err != nil {
		return err
	}
	for i := range labels.TextStyle {
		labels.TextStyle[i].Font.Variant = "Sans"
		labels.TextStyle[i].YAlign = -0.5
	}
	labels.Offset = vg.Point{X: vg.Points(4), Y: vg.Points(1.5)}
	p.Add(labels)
	p.NominalY(names...)
	p.Y.LineStyle.Width = 0
	p.Y.Padding = vg.Points(12) // for fonts that are wider than the one measured with
	p.HideX()
	return nil
}

// bytesChart shows the cost of opening by the bytes of the attributes.
func bytesChart(m *measurements) (*plot.Plot, error) {
	p := newChart("Time to open a token (bare AEAD without attributes = 1)")
	p.X.Label.Text = "bytes of attributes"
	p.Y.Min = 0
	p.X.Tick.Marker = plot.TickerFunc(bytesTicks)
	p.Legend.Top, p.Legend.Left = true, true
	p.Add(plotter.NewGrid())
	for _, l := range []struct {
		name, label string
		color       color.Color
	}{
		{"standard", "encoding/base64 and the bare AEAD", red},
		{"open", "chattoken", blue},
		{"floor", "the bare AEAD", gray},
	} {
		line, points, err := plotter.NewLinePoints(bytesLine(m, l.name))
		if err != nil {
			return nil, err
		}
		line.Color, line.Width, points.Color = l.color, vg.Points(1.5), l.color
		p.Add(line, points)
		p.Legend.Add(l.label, line, points)
	}
	return p, nil
}

func bytesLine(m *measurements, name string) plotter.XYs {
	var points plotter.XYs
	for _, n := range m.children("Bytes/" + name + "/") {
		x, err := strconv.ParseFloat(n, 64)
		y := m.time("Bytes/"+name+"/"+n, "Bytes/floor/0")
		if err == nil && !math.IsNaN(y) {
			points = append(points, plotter.XY{X: x, Y: y})
		}
	}
	return points
}

func bytesTicks(_, most float64) []plot.Tick {
	var ticks []plot.Tick
	for n := 0; n <= int(most); n += 128 {
		ticks = append(ticks, plot.Tick{Value: float64(n), Label: strconv.Itoa(n)})
	}
	return ticks
}
