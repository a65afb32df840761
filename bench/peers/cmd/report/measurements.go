package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// Units of measurements that the report knows by name.
const (
	nanoseconds = "ns/op"
	allocations = "allocs/op"
	bytesPerOp  = "B/op"
	characters  = "chars"
)

// A series is one quantity: what benchmark reports in unit. The name is without
// "Benchmark" and the number of processors.
type series struct{ benchmark, unit string }

// measurements are what benchmarks reported, by round.
type measurements struct {
	phases  []string // what ran, with the number of rounds
	round   int      // the present one
	last    int      // the highest that was read
	values  map[series]map[int]float64
	names   []string          // of benchmarks, in the order of their first run
	machine map[string]string // what the binaries say of where they ran
}

func newMeasurements() *measurements {
	return &measurements{values: make(map[series]map[int]float64), machine: make(map[string]string)}
}

func (m *measurements) nextRound() {
	m.last++
	m.round = m.last
}

// read adds the output of a test binary: lines of key: value, and lines of
// name, count, and pairs of value and unit.
func (m *measurements) read(out io.Reader) error {
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if fields := strings.Fields(lines.Text()); len(fields) >= 4 && strings.HasPrefix(fields[0], "Benchmark") {
			if err := m.add(benchmarkName(fields[0]), fields[2:]); err != nil {
				return fmt.Errorf("%q: %w", lines.Text(), err)
			}
		} else if key, value, ok := strings.Cut(lines.Text(), ": "); ok {
			m.machine[key] = value
		}
	}
	return lines.Err()
}

func (m *measurements) add(name string, fields []string) error {
	if !m.has(name) {
		m.names = append(m.names, name)
	}
	for pair := range slices.Chunk(fields, 2) {
		value, err := strconv.ParseFloat(pair[0], 64)
		if err != nil || len(pair) < 2 {
			return errors.New("not a benchmark's result")
		}
		m.put(series{name, pair[1]}, value)
	}
	return nil
}

// put adds a value of the present round. A further one of the same series in it is
// of a round of its own.
func (m *measurements) put(s series, value float64) {
	if m.values[s] == nil {
		m.values[s] = make(map[int]float64)
	}
	round := m.round
	for _, taken := m.values[s][round]; taken; _, taken = m.values[s][round] {
		round++
	}
	m.values[s][round] = value
	m.last = max(m.last, round)
}

// benchmarkName is the name without "Benchmark" and the number of processors,
// which go test puts behind it where there is more than one. The binaries run
// with as many as this program.
func benchmarkName(s string) string {
	s = strings.TrimPrefix(s, "Benchmark")
	return strings.TrimSuffix(s, fmt.Sprintf("-%d", runtime.GOMAXPROCS(0)))
}

// median returns the median over the rounds, and NaN where there is none.
func (m *measurements) median(s series) float64 {
	return median(slices.Collect(maps.Values(m.values[s])))
}

// ratio returns the median over the rounds in which both were measured.
func (m *measurements) ratio(of, to series) float64 {
	var values []float64
	for round, v := range m.values[of] {
		if base, ok := m.values[to][round]; ok {
			values = append(values, v/base)
		}
	}
	return median(values)
}

// fastest returns the ratio of the smallest values, of any rounds. What else a
// busy machine does can only make a round slower.
func (m *measurements) fastest(of, to series) float64 {
	return m.smallest(of) / m.smallest(to)
}

func (m *measurements) smallest(s series) float64 {
	least := math.NaN()
	for _, v := range m.values[s] {
		if !(v >= least) {
			least = v
		}
	}
	return least
}

// time is the ratio of the times of two benchmarks.
func (m *measurements) time(of, to string) float64 {
	return m.ratio(series{of, nanoseconds}, series{to, nanoseconds})
}

func median(values []float64) float64 {
	n := len(values)
	if n == 0 {
		return math.NaN()
	}
	slices.Sort(values)
	return (values[(n-1)/2] + values[n/2]) / 2
}

// children returns the distinct parts of benchmarks' names that follow prefix,
// which ends with a slash, up to the next slash.
func (m *measurements) children(prefix string) []string {
	var parts []string
	for _, name := range m.names {
		rest, ok := strings.CutPrefix(name, prefix)
		part, _, _ := strings.Cut(rest, "/")
		if ok && !slices.Contains(parts, part) {
			parts = append(parts, part)
		}
	}
	return parts
}

// has reports whether a benchmark was run.
func (m *measurements) has(benchmark string) bool { return slices.Contains(m.names, benchmark) }

// number formats a measurement with three digits, and NaN as a dash.
func number(v float64) string {
	switch {
	case math.IsNaN(v):
		return "–"
	case v == math.Trunc(v) && v < 1e5:
		return fmt.Sprintf("%.0f", v)
	case v < 9.995:
		return fmt.Sprintf("%.2f", v)
	case v < 99.95:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.0f", v)
}
