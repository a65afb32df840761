package main

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/perf/benchmath"
)

func read(t *testing.T, text string) *measurements {
	t.Helper()
	m, err := readMeasurements(text)
	require.NoError(t, err)
	return m
}

// inRounds has the values of one benchmark in each row, in nanoseconds.
func inRounds(t *testing.T, names []string, values ...[]float64) *measurements {
	t.Helper()
	var text strings.Builder
	for round := range values[0] {
		text.WriteString(roundMark)
		for i, name := range names {
			fmt.Fprintf(&text, "Benchmark%s-2 100 %v ns/op 0 B/op 2 allocs/op\n", name, values[i][round])
		}
	}
	return read(t, text.String())
}

func TestRead(t *testing.T) {
	m := read(t, `goos: linux
cpu: A Processor @ 2 GHz
BenchmarkOpen/size=small-2   	 1000	      2569 ns/op	       198.5 chars	       1 allocs/op
BenchmarkGuard/op=churn/tokens=8M-2
--- SKIP: BenchmarkGuard/op=churn/tokens=8M
    guard_test.go:7: takes a gigabyte
BenchmarkBytes/lib=o1egl-v2   1  7 ns/op
BenchmarkVerify/lib=dead-2   	panic: unimaginable
PASS
`)
	assert.Equal(t, []string{"Open/size=small", "Bytes/lib=o1egl-v2"}, m.names)
	assert.Equal(t, "A Processor @ 2 GHz", m.machine["cpu"])
	for unit, want := range map[string]float64{"sec/op": 2.569e-6, "chars": 198.5, "allocs/op": 1} {
		assert.InEpsilon(t, want, m.summary(series{"Open/size=small", unit}).Center, 1e-9, unit)
	}
	assert.True(t, math.IsNaN(m.summary(series{"Open/size=large", "sec/op"}).Center))
}

// The machine is ten times slower from the second round on, and busy in the
// middle of the third.
func TestRatio(t *testing.T) {
	m := inRounds(t, []string{"A", "B"}, []float64{20, 200, 200, 202, 204, 198}, []float64{10, 100, 150, 100, 100, 100})
	got := m.time("A", "B")
	assert.InDelta(t, 2, got.Center, 1e-9)
	assert.InDelta(t, 4.0/3, got.Lo, 1e-9)
	assert.InDelta(t, 2.04, got.Hi, 1e-9)
	assert.Equal(t, "2 ±34 %", withInterval(got))
	assert.Equal(t, "–", withInterval(m.time("A", "C")))
}

// Series of only some rounds are compared within those.
func TestRatioOfSomeRounds(t *testing.T) {
	m := read(t, "BenchmarkA 1 10 ns/op\nBenchmarkB 1 30 ns/op\nROUND\nBenchmarkA 1 7 ns/op\nROUND\nBenchmarkA 1 20 ns/op\nBenchmarkB 1 60 ns/op\n")
	assert.InDelta(t, 3, m.time("B", "A").Center, 1e-9)
	assert.InDelta(t, 10e-9, m.summary(series{"A", "sec/op"}).Center, 1e-15)
}

func TestTooFewRounds(t *testing.T) {
	m := inRounds(t, []string{"A", "B"}, []float64{20, 30}, []float64{10, 10})
	got := m.time("A", "B")
	assert.True(t, math.IsInf(got.Hi, 1))
	assert.Equal(t, "2.50", withInterval(got))
}

func TestNumber(t *testing.T) {
	for want, v := range map[string]float64{
		"–": math.NaN(), "0": 0, "1": 1, "0.01": 0.00996, "0.56": 0.5556, "9.99": 9.994,
		"10.0": 9.996, "99.9": 99.94, "100": 99.96, "1574": 1574,
	} {
		assert.Equal(t, want, number(v))
	}
}

func TestParseGoals(t *testing.T) {
	goals, err := parseGoals("# why\n\nsec/op A B <=1.5 <=1.8\nallocs/op A - <=0 <=0\nsec/op C A >=4 -\n")
	require.NoError(t, err)
	assert.Equal(t, []goal{
		{of: series{"A", "sec/op"}, to: series{"B", "sec/op"}, bound: 1.5, checked: true, held: 1.8},
		{of: series{"A", "allocs/op"}, checked: true},
		{of: series{"C", "sec/op"}, to: series{"A", "sec/op"}, atLeast: true, bound: 4},
	}, goals)
}

func TestParseGoalsMalformed(t *testing.T) {
	for name, line := range map[string]string{
		"too few fields":            "sec/op A B <=1.5",
		"too many fields":           "sec/op A B <=1.5 <=2 <=3",
		"a bound of no number":      "sec/op A B <=x <=1",
		"a bound of no sign":        "sec/op A B 1.5 <=1",
		"held of no number":         "sec/op A B <=1.5 <=x",
		"held of another direction": "sec/op A B <=1.5 >=1",
	} {
		_, err := parseGoals("\n" + line)
		assert.ErrorContains(t, err, "goals.txt:2", name)
	}
}

func TestJudge(t *testing.T) {
	most, least := goal{}, goal{atLeast: true}
	for _, tt := range []struct {
		lo, center, hi float64
		most, least    verdict
	}{
		{1.7, 1.8, 1.9, met, missed},
		{1.9, 1.9, 2, met, undecided},
		{1.9, 2, 2.1, undecided, undecided},
		{2, 2.1, 2.2, undecided, met},
		{2.1, 2.1, 2.1, missed, met},
		{2, 2, 2, met, met},
		{math.Inf(-1), 9, math.Inf(1), undecided, undecided},
		{math.NaN(), math.NaN(), math.NaN(), unmeasured, unmeasured},
	} {
		s := benchmath.Summary{Lo: tt.lo, Center: tt.center, Hi: tt.hi}
		assert.Equal(t, tt.most, most.judge(s, 2), "%v", s)
		assert.Equal(t, tt.least, least.judge(s, 2), "%v", s)
	}
}

func TestCheckPlan(t *testing.T) {
	goals, err := parseGoals(`
sec/op A/size=1+1 B <=1 <=1
sec/op A/size=1+1 C <=1 -
allocs/op B - <=0 <=0
sec/op Crowd/live=1/op=x Crowd/live=1/op=y <=1 <=1
sec/op Verify/lib=a/size=b B >=3 >=2`)
	require.NoError(t, err)
	var got []string
	for _, s := range checkPlan(goals).runs {
		got = append(got, s.pkg+" "+s.bench)
	}
	assert.Equal(t, []string{
		`.. ^BenchmarkA$/^size=1\+1$`, ".. ^BenchmarkB$", ".. ^BenchmarkCrowd$/^live=1$", ". ^BenchmarkVerify$/^lib=a$/^size=b$",
	}, got)
}

func TestCheckGoals(t *testing.T) {
	m := inRounds(t, []string{"A", "B"}, []float64{22, 21, 22, 23, 22, 22}, []float64{20, 20, 20, 20, 20, 20})
	for _, tt := range []struct{ name, goal, want string }{
		{"met", "sec/op A B <=1.2 <=1.2", "met\n"},
		{"missed but held", "sec/op A B <=1 <=1.2", "missed\n"},
		{"perhaps past what is held", "sec/op A B <=1 <=1.1", "missed\n"},
		{"certainly past it", "sec/op A B <=1 <=1.01", "FAIL: missed, 1.01 held\n"},
		{"not measured", "sec/op A C <=1 <=1.1", "FAIL: not measured, 1.10 held\n"},
		{"an exact count", "allocs/op A - <=1 <=1", "FAIL: missed, 1 held\n"},
		{"not checked", "sec/op A B <=0.5 -", ""},
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

// The report and its charts work whatever was measured.
func TestWrite(t *testing.T) {
	goals, err := parseGoals("sec/op Open/size=small FloorOpen/size=small <=1.5 <=2\nsec/op Seal/size=small - <=1 -")
	require.NoError(t, err)
	names := []string{
		"FloorOpen/size=small", "Open/size=small", "Refuse/why=forged", "Enter", "Crowd/live=1M/op=tick",
		"Mint/lib=chattoken/size=small", "Verify/lib=chattoken/size=small", "Forged/lib=chattoken/size=small",
		"Junk/lib=chattoken/junk=dots", "Mint/lib=other/size=small", "Verify/lib=other/size=small",
		"Guard/lib=chattoken/tokens=1M/op=fresh", "Guard/lib=flat-table/tokens=1M/op=fresh",
		"Bytes/lib=chattoken/bytes=0", "Bytes/lib=chattoken/bytes=128", "Bytes/lib=floor/bytes=0",
	}
	values := make([][]float64, len(names))
	for i := range values {
		values[i] = []float64{float64(100 * (i + 1))}
	}
	for _, tt := range []struct {
		m     *measurements
		wants map[string][]string // by file
	}{
		{read(t, ""), map[string][]string{"RESULTS.md": {"| Open/size=small | sec/op | FloorOpen/size=small | – | ≤ 1.50 | not measured |"}}},
		{inRounds(t, names, values...), map[string][]string{
			"RESULTS.md": {
				"| Open/size=small | sec/op | FloorOpen/size=small | 2 | ≤ 1.50 | undecided |",
				"| Seal/size=small | sec/op |  | – | ≤ 1 | not measured |",
				"| other | – | – | 1.67 | – | – | 2 | 1.57 | – | – | 2 | – |",
				"| 1M | fresh | replay |", "| flat-table (no lock, never forgets) | 1.08 | – |",
				"stretchr/testify v",
			},
			"verify.svg":  {"chattoken", "other", "1.57"},
			"bytes.svg":   {"bare AEAD", "128"},
			"gateway.svg": {"end at its time", "of 1M"},
		}},
	} {
		dir := t.TempDir()
		require.NoError(t, writeResults(dir, tt.m, goals))
		require.NoError(t, writeCharts(dir, tt.m))
		for file, wants := range tt.wants {
			data, err := os.ReadFile(filepath.Join(dir, file))
			require.NoError(t, err, file)
			assert.NotContains(t, string(data), "<no value>")
			for _, want := range wants {
				assert.Contains(t, string(data), want, file)
			}
		}
	}
}

// Every goal is of a benchmark in the plan. A checked goal's benchmark is never
// left out as slow.
func TestOurGoals(t *testing.T) {
	goals, err := parseGoals(goalsText)
	require.NoError(t, err)
	assert.NotEmpty(t, goals)
	for _, g := range goals {
		assert.NotRegexp(t, "[18]M", map[bool]string{true: g.of.benchmark + g.to.benchmark}[g.checked])
	}
}
