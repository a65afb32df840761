package main

import (
	"fmt"
	"log"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/perf/benchfmt"
	"golang.org/x/perf/benchmath"
)

// A series is one quantity: what a benchmark reports in a unit. The name is
// without "Benchmark" and the number of processors. Units are benchstat's:
// ns/op is sec/op.
type series struct{ benchmark, unit string }

// measurements are the values of each series, by round.
type measurements struct {
	rounds  int
	values  map[series]map[int]float64
	names   []string          // of benchmarks, in the order of their first run
	machine map[string]string // what the binaries say of where they ran
}

// roundMark is a line before each round of bench.txt. It isn't in the Go
// benchmark format, so benchstat skips it.
const roundMark = "ROUND\n"

// readMeasurements reads the output of go test -bench, with marks between the
// rounds. It logs and leaves out what it can't read.
func readMeasurements(text string) (*measurements, error) {
	m := &measurements{values: make(map[series]map[int]float64), machine: make(map[string]string)}
	for round := range strings.SplitSeq(text, roundMark) {
		in := benchfmt.NewReader(strings.NewReader(round), "measurements")
		for in.Scan() {
			switch record := in.Result().(type) {
			case *benchfmt.SyntaxError: // where a benchmark died
				log.Print(record)
			case *benchfmt.Result:
				m.add(record)
			}
		}
		if err := in.Err(); err != nil {
			return nil, err
		}
		m.rounds++
	}
	return m, nil
}

func (m *measurements) add(r *benchfmt.Result) {
	name := r.Name.String()
	if _, parts := r.Name.Parts(); len(parts) > 0 && parts[len(parts)-1][0] == '-' {
		name = strings.TrimSuffix(name, string(parts[len(parts)-1]))
	}
	if !m.has(name) {
		m.names = append(m.names, name)
	}
	for _, v := range r.Values {
		s := series{name, v.Unit}
		if m.values[s] == nil {
			m.values[s] = make(map[int]float64)
		}
		m.values[s][m.rounds] = v.Value
	}
	for _, c := range r.Config {
		m.machine[c.Key] = string(c.Value)
	}
}

// has reports whether a benchmark was run.
func (m *measurements) has(benchmark string) bool { return slices.Contains(m.names, benchmark) }

// summary returns the median of a series and its 95 % confidence interval. All
// are NaN without measurements. The interval is infinite with fewer than six
// rounds.
func (m *measurements) summary(s series) benchmath.Summary {
	return summarize(slices.Collect(maps.Values(m.values[s])))
}

// ratio is the summary of the ratios within the rounds that have both, because
// a slow spell of the machine slows both sides.
func (m *measurements) ratio(of, to series) benchmath.Summary {
	var ratios []float64
	for round, v := range m.values[of] {
		if base, ok := m.values[to][round]; ok {
			ratios = append(ratios, v/base)
		}
	}
	return summarize(ratios)
}

func summarize(values []float64) benchmath.Summary {
	if len(values) == 0 {
		nan := math.NaN()
		return benchmath.Summary{Center: nan, Lo: nan, Hi: nan}
	}
	sample := benchmath.NewSample(values, &benchmath.DefaultThresholds)
	return benchmath.AssumeNothing.Summary(sample, 0.95)
}

// time is the ratio of the times of two benchmarks.
func (m *measurements) time(of, to string) benchmath.Summary {
	return m.ratio(series{of, "sec/op"}, series{to, "sec/op"})
}

// number formats a measurement with three digits, and NaN as a dash.
func number(v float64) string {
	switch {
	case math.IsNaN(v):
		return "–"
	case v == math.Trunc(v) && math.Abs(v) < 1e5:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case v < 0.0995:
		return strconv.FormatFloat(v, 'g', 2, 64)
	case v < 9.995:
		return strconv.FormatFloat(v, 'f', 2, 64)
	case v < 99.95:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 0, 64)
}

// withInterval formats the median and how far the interval reaches from it.
func withInterval(s benchmath.Summary) string {
	far := max(s.Hi-s.Center, s.Center-s.Lo) / s.Center
	if far == 0 || math.IsNaN(far) || math.IsInf(far, 0) { // exact, zero, or too few rounds
		return number(s.Center)
	}
	return fmt.Sprintf("%s ±%.0f %%", number(s.Center), math.Ceil(100*far))
}
