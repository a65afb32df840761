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

// writeCharts writes the charts of RESULTS.md.
func writeCharts(dir string, m *measurements) error {
	for name, chart := range map[string]func(*measurements) (*plot.Plot, error){
		"verify.svg":  verifyChart,
		"bytes.svg":   bytesChart,
		"gateway.svg": gatewayChart,
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

// save leaves a margin around the chart for text.
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

// A bar is a ratio with a name.
type bar struct {
	name  string
	ratio float64
	ours  bool
}

// verifyChart shows how long libraries take to verify the small claims.
func verifyChart(m *measurements) (*plot.Plot, error) {
	var bars []bar
	for _, lib := range m.keys("Verify/lib=") {
		ratio := m.time("Verify/lib="+lib+"/size=small", "Verify/lib=chattoken/size=small")
		bars = append(bars, bar{label(lib), ratio.Center, lib == "chattoken"})
	}
	return barChart("Time to verify a small token (chattoken = 1)", bars)
}

// gatewayChart shows what a gateway does for each of its participants.
func gatewayChart(m *measurements) (*plot.Plot, error) {
	live := "100k"
	if m.has("Crowd/live=1M/op=tick") {
		live = "1M"
	}
	var bars []bar
	for _, b := range []struct {
		name, benchmark string
		each            float64 // participants
		ours            bool
	}{
		{"bare AEAD of the token", "FloorOpen/size=small", 1, false},
		{"open the token", "Open/size=small", 1, false},
		{"open and spend it", "OpenSpend/size=small", 1, false},
		{"let in", "Enter", 1, true},
		{"let in, and leave", "EnterLeave", 1, true},
		{"end at its time", "Crowd/live=" + live + "/op=tick", 100, true},
		{"revoke with the room", "Crowd/live=" + live + "/op=room", 10_000, true},
		{"revoke as one user", "Crowd/live=" + live + "/op=user", 1, true},
		{"revoke, as others say", "Crowd/live=" + live + "/op=news", 1, true},
		{"allow one message", "Authorize", 1, true},
	} {
		if ratio := m.time(b.benchmark, "Enter").Center / b.each; !math.IsNaN(ratio) {
			bars = append(bars, bar{b.name, ratio, b.ours})
		}
	}
	return barChart("Time for each participant, of "+live+" (letting one in = 1)", bars)
}

// barChart has the longest bar at the bottom. The numbers are beside the bars,
// because some bars may be a hundred times as long as others.
func barChart(title string, bars []bar) (*plot.Plot, error) {
	p := newChart(title)
	slices.SortStableFunc(bars, func(a, b bar) int { return cmp.Compare(b.ratio, a.ratio) })
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
		if b.ours {
			chart.Color = blue
		}
		p.Add(chart)
		names[i] = b.name
		numbers.XYs = append(numbers.XYs, plotter.XY{X: b.ratio, Y: float64(i)})
		numbers.Labels = append(numbers.Labels, number(b.ratio))
	}
	if len(bars) == 0 {
		return p, nil
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
		{"chattoken", "chattoken", blue},
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
	for _, n := range m.keys("Bytes/lib=" + name + "/bytes=") {
		x, err := strconv.ParseFloat(n, 64)
		y := m.time("Bytes/lib="+name+"/bytes="+n, "Bytes/lib=floor/bytes=0").Center
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
