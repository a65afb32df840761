// Report runs the benchmarks of this repository and says what came of them.
//
// Usage, in bench/peers:
//
//	go run ./cmd/report           measure, and write RESULTS.md and its charts
//	go run ./cmd/report -quick    the same, shorter, without what takes gigabytes
//	go run ./cmd/report -check    measure what goals.txt holds, and fail where a
//	                              measurement is past that
//
// All that is compared runs in turn, several rounds of it. For the results a
// ratio is taken within each round, and its median is what counts: a machine that
// is slower for a while is so for both sides. For the check it is the ratio of the
// fastest rounds, which tells less about the machine and survives a busy one.
package main

import (
	"flag"
	"fmt"
	"log"
	"os"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("report: ")
	quick := flag.Bool("quick", false, "measure less")
	check := flag.Bool("check", false, "compare with the goals, and write nothing")
	out := flag.String("out", "..", "directory for the results")
	flag.Parse()
	if flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(*quick, *check, *out); err != nil {
		log.Fatal(err)
	}
}

func run(quick, check bool, out string) error {
	goals, err := parseGoals(goalsText)
	if err != nil {
		return err
	}
	s, err := build()
	if err != nil {
		return err
	}
	defer s.remove()
	phases := plan(quick)
	if check {
		phase, err := checkPhase(goals, s.packageOf)
		if err != nil {
			return err
		}
		phases = append(phases[:0], phase)
	}
	m := newMeasurements()
	for _, p := range phases {
		if err := s.run(p, m); err != nil {
			return err
		}
	}
	if check {
		return checkGoals(os.Stdout, m, goals)
	}
	if err := writeResults(out, m, goals); err != nil {
		return fmt.Errorf("writing the results: %w", err)
	}
	return writeCharts(out, m)
}
