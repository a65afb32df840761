package main

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// rounds returns measurements of one benchmark for each name, a value a round.
func rounds(t *testing.T, names []string, values ...[]float64) *measurements {
	t.Helper()
	m := newMeasurements()
	for _, round := range values {
		m.nextRound()
		for i, name := range names {
			line := fmt.Sprintf("Benchmark%s 100 %v ns/op 0 B/op 2 allocs/op\n", name, round[i])
			require.NoError(t, m.read(strings.NewReader(line)))
		}
	}
	return m
}

func TestRead(t *testing.T) {
	suffix := fmt.Sprintf("-%d", runtime.GOMAXPROCS(0))
	m := newMeasurements()
	require.NoError(t, m.read(strings.NewReader(`goos: linux
cpu: A Processor @ 2 GHz
BenchmarkOpen/small`+suffix+`   	 1000	      2569 ns/op	       198.5 chars	       1 allocs/op
BenchmarkGuard/fresh/8M`+suffix+`
--- SKIP: BenchmarkGuard/fresh/8M
BenchmarkBytes/floor/1024`+suffix+`   1  7 ns/op
PASS
`)))
	assert.Equal(t, []string{"Open/small", "Bytes/floor/1024"}, m.names)
	assert.Equal(t, "A Processor @ 2 GHz", m.machine["cpu"])
	for unit, want := range map[string]float64{"ns/op": 2569, "chars": 198.5, "allocs/op": 1} {
		assert.Equal(t, want, m.median(series{"Open/small", unit}), unit)
	}
	assert.True(t, math.IsNaN(m.median(series{"Open/large", "ns/op"})))
}

// What is measured twice in a round is two rounds.
func TestReadAgain(t *testing.T) {
	m := newMeasurements()
	for _, text := range []string{
		"BenchmarkA 1 20 ns/op\nBenchmarkA 1 40 ns/op\nBenchmarkB 1 10 ns/op\nBenchmarkB 1 10 ns/op\n",
		"BenchmarkA 1 30 ns/op\nBenchmarkB 1 10 ns/op\n",
	} {
		m.nextRound()
		require.NoError(t, m.read(strings.NewReader(text)))
	}
	a, b := series{"A", nanoseconds}, series{"B", nanoseconds}
	assert.Equal(t, 30.0, m.median(a))
	assert.Equal(t, 2.0, m.fastest(a, b))
	assert.Equal(t, 3.0, m.ratio(a, b))
	assert.Equal(t, []string{"A", "B"}, m.names)
}

func TestReadMalformed(t *testing.T) {
	for name, line := range map[string]string{
		"a value that is no number": "BenchmarkOpen 1 many ns/op",
		"a value without a unit":    "BenchmarkOpen 1 7 ns/op 3",
	} {
		assert.Error(t, newMeasurements().read(strings.NewReader(line)), name)
	}
}

// The machine is ten times as slow in the second round, and busy in the middle
// of the third.
func TestRatios(t *testing.T) {
	m := rounds(t, []string{"A", "B"}, []float64{20, 10}, []float64{200, 100}, []float64{20, 15})
	a, b := series{"A", nanoseconds}, series{"B", nanoseconds}
	assert.Equal(t, 20.0, m.median(a))
	assert.Equal(t, 2.0, m.ratio(a, b))
	assert.Equal(t, 2.0, m.fastest(a, b))
	assert.True(t, math.IsNaN(m.ratio(a, series{"C", nanoseconds})))
	assert.True(t, math.IsNaN(m.fastest(series{"C", nanoseconds}, a)))
}

func TestMedian(t *testing.T) {
	assert.Equal(t, 2.0, median([]float64{3, 1, 2}))
	assert.Equal(t, 2.5, median([]float64{4, 1, 2, 3}))
	assert.True(t, math.IsNaN(median(nil)))
}

func TestNumber(t *testing.T) {
	for want, v := range map[string]float64{
		"–": math.NaN(), "0": 0, "1": 1, "0.56": 0.5556, "9.99": 9.994, "10.0": 9.996, "99.9": 99.94, "100": 99.96, "1574": 1574,
	} {
		assert.Equal(t, want, number(v))
	}
}

func TestParseGoals(t *testing.T) {
	goals, err := parseGoals("# why\n\nns/op A B <=1.5 <=1.8\nallocs/op A - <=0 <=0\nns/op C A >=4 -\n")
	require.NoError(t, err)
	assert.Equal(t, []goal{
		{of: series{"A", "ns/op"}, to: series{"B", "ns/op"}, bound: 1.5, checked: true, held: 1.8},
		{of: series{"A", "allocs/op"}, checked: true},
		{of: series{"C", "ns/op"}, to: series{"A", "ns/op"}, atLeast: true, bound: 4},
	}, goals)
}

func TestParseGoalsMalformed(t *testing.T) {
	for name, line := range map[string]string{
		"too few fields":            "ns/op A B <=1.5",
		"too many fields":           "ns/op A B <=1.5 <=2 <=3",
		"a bound of no number":      "ns/op A B <=x <=1",
		"a bound of no sign":        "ns/op A B 1.5 <=1",
		"held of no number":         "ns/op A B <=1.5 <=x",
		"held of another direction": "ns/op A B <=1.5 >=1",
	} {
		_, err := parseGoals("\n" + line)
		assert.ErrorContains(t, err, "goals.txt:2", name)
	}
}

func TestOurGoals(t *testing.T) {
	goals, err := parseGoals(goalsText)
	require.NoError(t, err)
	assert.NotEmpty(t, goals)
}

func TestGoalWithin(t *testing.T) {
	most, least := goal{}, goal{atLeast: true}
	for _, tt := range []struct {
		v           float64
		most, least bool
	}{
		{v: 1.9, most: true},
		{v: 2, most: true, least: true},
		{v: 2.1, least: true},
		{v: math.NaN()},
	} {
		assert.Equal(t, tt.most, most.within(tt.v, 2), tt.v)
		assert.Equal(t, tt.least, least.within(tt.v, 2), tt.v)
	}
}

func TestCheckPhase(t *testing.T) {
	goals, err := parseGoals("ns/op A/small B/1+1 <=1 <=1\nns/op A/small C <=1 -\nallocs/op A/small - <=0 <=0\nns/op D E >=3 >=2")
	require.NoError(t, err)
	p, err := checkPhase(goals, func(string) string { return library })
	require.NoError(t, err)
	assert.Equal(t, []selection{
		{pkg: library, bench: "^BenchmarkA$/^small$", pieces: 5},
		{pkg: library, bench: `^BenchmarkB$/^1\+1$`, pieces: 5},
		{pkg: library, bench: "^BenchmarkD$"},
		{pkg: library, bench: "^BenchmarkE$", pieces: 5},
	}, p.runs)

	_, err = checkPhase(goals, func(string) string { return "" })
	assert.ErrorContains(t, err, "A/small")
}

func TestCheckGoals(t *testing.T) {
	m := rounds(t, []string{"A", "B"}, []float64{22, 20}, []float64{21, 19})
	for _, tt := range []struct{ name, goal, want string }{
		{"met", "ns/op A B <=1.2 <=1.2", "pass\n"},
		{"missed but held", "ns/op A B <=1 <=1.2", "goal missed, 1.20 held\n"},
		{"past what is held", "ns/op A B <=1 <=1.1", "FAIL: past 1.10\n"},
		{"not measured", "ns/op A C <=1 <=1.1", "FAIL: not measured\n"},
		{"an exact count", "allocs/op A - <=1 <=1", "FAIL: past 1\n"},
		{"not checked", "ns/op A B <=0.5 -", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			goals, err := parseGoals(tt.goal)
			require.NoError(t, err)
			var out bytes.Buffer
			err = checkGoals(&out, m, goals)
			assert.True(t, strings.HasSuffix(out.String(), tt.want), out.String())
			assert.Equal(t, strings.HasPrefix(tt.want, "FAIL"), err != nil)
		})
	}
}

// Whatever was measured, and whatever not, the report and its charts are made.
func TestWrite(t *testing.T) {
	names := []string{
		"FloorOpen/small", "Open/small", "Refuse/forged",
		"Mint/chattoken/small", "Verify/chattoken/small", "Forged/chattoken/small", "Junk/chattoken/dots",
		"Mint/other/small", "Verify/other/small",
		"GuardPeer/chattoken/1M/fresh", "GuardBaseline/flat-table/fresh/1M",
		"Bytes/open/0", "Bytes/open/128", "Bytes/standard/0", "Bytes/floor/0", "Bytes/floor/128",
	}
	values := make([]float64, len(names))
	for i := range values {
		values[i] = float64(100 * (i + 1))
	}
	m := rounds(t, names, values)
	goals, err := parseGoals("ns/op Open/small FloorOpen/small <=1.5 <=2\nns/op Seal/small - <=1 -")
	require.NoError(t, err)
	dir := t.TempDir()
	require.NoError(t, writeResults(dir, m, goals))
	require.NoError(t, writeCharts(dir, m))
	for file, wants := range map[string][]string{
		"RESULTS.md": {
			"| Open/small | time | FloorOpen/small | 2 | ≤ 1.50 | **missed** |",
			"| Seal/small | time |  | – | ≤ 1 | not measured |",
			"| other | – | – | 2 |",
			"stretchr/testify v",
		},
		"verify.svg": {"chattoken", "other", "1.80"},
		"bytes.svg":  {"bare AEAD", "128"},
	} {
		data, err := os.ReadFile(filepath.Join(dir, file))
		require.NoError(t, err, file)
		for _, want := range wants {
			assert.Contains(t, string(data), want, file)
		}
	}
}

func TestPlan(t *testing.T) {
	assert.Less(t, len(plan(true)), len(plan(false)))
	for _, p := range plan(true) {
		assert.True(t, p.short, p.title)
	}
}
