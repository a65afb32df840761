package main

import (
	_ "embed"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"golang.org/x/perf/benchmath"
)

//go:embed goals.txt
var goalsText string

// A goal is a bound on a measurement, or on the ratio of two.
type goal struct {
	of, to  series // zero to bounds the measurement itself
	atLeast bool   // else at most
	bound   float64
	checked bool    // by -check, against
	held    float64 // which is where a change has made something worse
}

// parseGoals parses the format that goals.txt explains.
func parseGoals(text string) ([]goal, error) {
	var goals []goal
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		g, err := parseGoal(strings.Fields(line))
		if err != nil {
			return nil, fmt.Errorf("goals.txt:%d: %w", n, err)
		}
		goals = append(goals, g)
	}
	return goals, nil
}

func parseGoal(fields []string) (goal, error) {
	if len(fields) != 5 {
		return goal{}, errors.New("not five fields")
	}
	unit, benchmark, relativeTo, bound, held := fields[0], fields[1], fields[2], fields[3], fields[4]
	g := goal{of: series{benchmark, unit}}
	if relativeTo != "-" {
		g.to = series{relativeTo, unit}
	}
	g.atLeast = strings.HasPrefix(bound, ">=")
	var err error
	if g.bound, err = g.parseBound(bound); err != nil || held == "-" {
		return g, err
	}
	g.checked = true
	g.held, err = g.parseBound(held)
	return g, err
}

// parseBound parses a bound of the goal's direction.
func (g goal) parseBound(s string) (float64, error) {
	sign := "<="
	if g.atLeast {
		sign = ">="
	}
	number, ok := strings.CutPrefix(s, sign)
	v, err := strconv.ParseFloat(number, 64)
	if err != nil || !ok {
		return 0, errors.New("a bound is not <= or >=, the same twice, and a number")
	}
	return v, nil
}

// value is NaN if something wasn't measured.
func (g goal) value(m *measurements) benchmath.Summary {
	if g.to == (series{}) {
		return m.summary(g.of)
	}
	return m.ratio(g.of, g.to)
}

// A verdict says on which side of a bound an interval lies.
type verdict string

const (
	unmeasured verdict = "not measured"
	met        verdict = "met"
	missed     verdict = "missed"
	undecided  verdict = "undecided" // the bound lies within the interval
)

func (g goal) judge(s benchmath.Summary, bound float64) verdict {
	best, worst := s.Lo, s.Hi
	if g.atLeast {
		best, worst, bound = -s.Hi, -s.Lo, -bound
	}
	switch {
	case math.IsNaN(s.Center):
		return unmeasured
	case worst <= bound:
		return met
	case best > bound:
		return missed
	}
	return undecided
}

func (g goal) String() string {
	sign := "≤"
	if g.atLeast {
		sign = "≥"
	}
	return fmt.Sprintf("%s %s", sign, number(g.bound))
}

// checkGoals prints the checked goals. It fails for those that are certainly
// past the second bound, or not measured.
func checkGoals(w io.Writer, m *measurements, goals []goal) error {
	failed := 0
	for _, g := range goals {
		if !g.checked {
			continue
		}
		v := g.value(m)
		line := string(g.judge(v, g.bound))
		if held := g.judge(v, g.held); held == missed || held == unmeasured {
			failed++
			line = fmt.Sprintf("FAIL: %s, %s held", line, number(g.held))
		}
		name := g.of.benchmark
		if g.to.benchmark != "" {
			name += " / " + g.to.benchmark
		}
		fmt.Fprintf(w, "%-13s  %-64s %12s  %-9s  %s\n", g.of.unit, name, withInterval(v), g, line)
	}
	if failed > 0 {
		return fmt.Errorf("%d measurements past what is held", failed)
	}
	return nil
}
