// Report runs the benchmarks of this repository and writes their results.
//
// Usage, in bench/peers:
//
//	go run ./cmd/report                measure, and write bench.txt, RESULTS.md
//	                                   and its charts
//	go run ./cmd/report -quick         the same, shorter, without what takes long
//	go run ./cmd/report -from FILE     write them from an earlier bench.txt
//	go run ./cmd/report -check         measure what goals.txt holds, and fail if
//	                                   something is certainly past it
//
// All benchmarks take turns, in rounds. Each round gives a ratio. What counts
// is the median of the rounds and its 95 % confidence interval. bench.txt is
// the benchmarks' output, for benchstat.
package main

import (
	"errors"
	"flag"
	"log"
	"os"
	"path/filepath"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("report: ")
	quick := flag.Bool("quick", false, "measure less")
	check := flag.Bool("check", false, "compare with the goals, and write nothing")
	from := flag.String("from", "", "a `file` of measurements, to make none")
	out := flag.String("out", "..", "`directory` for the results")
	flag.Parse()
	if flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(*quick, *check, *from, *out); err != nil {
		log.Fatal(err)
	}
}

func run(quick, check bool, from, out string) error {
	goals, err := parseGoals(goalsText)
	if err != nil {
		return err
	}
	if check {
		text, failed := measure(checkPlan(goals))
		m, err := readMeasurements(text)
		if err != nil {
			return err
		}
		return errors.Join(failed, checkGoals(os.Stdout, m, goals))
	}
	var failed error // of what is left out of the results
	if from == "" {
		var text string
		text, failed = measure(reportPlan(quick))
		from = filepath.Join(out, "bench.txt")
		if err := os.WriteFile(from, []byte(text), 0o644); err != nil {
			return err
		}
	}
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	m, err := readMeasurements(string(text))
	if err != nil {
		return err
	}
	return errors.Join(failed, writeResults(out, m, goals), writeCharts(out, m))
}
