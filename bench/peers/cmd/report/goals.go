package main

import (
	_ "embed"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
)

//go:embed goals.txt
var goalsText string

// A goal is a bound on a measurement, or on the ratio of two.
type goal struct {
	of, to  series // to is zero where the measurement itself is bounded
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

// value is NaN where something was not measured. ratio is how to compare two
// series.
func (g goal) value(m *measurements, ratio func(of, to series) float64) float64 {
	if g.to == (series{}) {
		return m.median(g.of)
	}
	return ratio(g.of, g.to)
}

// within reports whether v keeps to a bound of the goal's direction.
func (g goal) within(v, bound float64) bool {
	if g.atLeast {
		return v >= bound
	}
	return v <= bound
}

func (g goal) String() string {
	sign := "≤"
	if g.atLeast {
		sign = "≥"
	}
	return fmt.Sprintf("%s %s", sign, number(g.bound))
}

// checkPhase is what -check measures: every benchmark that a checked goal names,
// in many rounds, and in each of them several times, so shortly that some of it goes
// undisturbed: where other processes want this processor, they have it every three
// milliseconds or so. Of what is to be slow, the whole is measured at once, and with
// it some of the garbage that it leaves to be collected.
func checkPhase(goals []goal, packageOf func(benchmark string) string) (phase, error) {
	p := phase{title: "goals", rounds: 25, benchtime: 10 * time.Millisecond, short: true}
	seen := map[string]bool{"": true}
	for _, g := range goals {
		for _, name := range []string{g.of.benchmark, g.to.benchmark} {
			if !g.checked || seen[name] {
				continue
			}
			seen[name] = true
			sel, err := selectOne(name, packageOf)
			if err != nil {
				return phase{}, err
			}
			if !g.atLeast || name != g.of.benchmark {
				sel.pieces = 5
			}
			p.runs = append(p.runs, sel)
		}
	}
	return p, nil
}

func selectOne(name string, packageOf func(benchmark string) string) (selection, error) {
	pkg := packageOf(name)
	if pkg == "" {
		return selection{}, fmt.Errorf("goals.txt: there is no benchmark %s", name)
	}
	pattern := "^Benchmark" + strings.ReplaceAll(regexp.QuoteMeta(name), "/", "$/^") + "$"
	return selection{pkg: pkg, bench: pattern}, nil
}

// checkGoals prints the checked goals. The error is about the ones that are past
// what is held.
func checkGoals(w io.Writer, m *measurements, goals []goal) error {
	missed := 0
	for _, g := range goals {
		if g.checked && !g.print(w, g.value(m, m.fastest)) {
			missed++
		}
	}
	if missed > 0 {
		return fmt.Errorf("%d measurements past what is held", missed)
	}
	return nil
}

// print prints a goal and its value v, and reports whether v is within what is
// held.
func (g goal) print(w io.Writer, v float64) bool {
	verdict := "pass"
	switch {
	case math.IsNaN(v):
		verdict = "FAIL: not measured"
	case !g.within(v, g.held):
		verdict = "FAIL: past " + number(g.held)
	case !g.within(v, g.bound):
		verdict = "goal missed, " + number(g.held) + " held"
	}
	name := g.of.benchmark
	if g.to.benchmark != "" {
		name += " / " + g.to.benchmark
	}
	fmt.Fprintf(w, "%-9s  %-60s %6s  %-6s  %s\n", g.of.unit, name, number(v), g, verdict)
	return !strings.HasPrefix(verdict, "FAIL")
}
