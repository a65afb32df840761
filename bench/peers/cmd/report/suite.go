package main

import (
	"errors"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// Packages with benchmarks, by their directories relative to this module.
const (
	library = ".."
	peers   = "."
)

// A plan is what to measure. Its selections take turns, so a slow spell of the
// machine slows all of them.
type plan struct {
	rounds int
	runs   []selection
}

// A selection is some benchmarks of a package: patterns for go test -bench and
// -skip. An empty skip skips nothing.
type selection struct {
	pkg, bench, skip string
	slow             bool // measured in every other round only
	large            bool // with what takes gigabytes
}

func reportPlan(quick bool) plan {
	tokens := []selection{
		{pkg: library, bench: ".", skip: "^Benchmark(Guard|Crowd)$"},
		{pkg: peers, bench: "^Benchmark(Mint|Verify|Bytes)$"},
		{pkg: peers, bench: "^Benchmark(VerifyParallel|Forged)$/./^size=small$"},
	}
	if quick {
		return plan{6, tokens}
	}
	return plan{rounds, append(tokens,
		selection{pkg: library, bench: "^Benchmark(Guard|Crowd)$", slow: true, large: true},
		selection{pkg: peers, bench: "^Benchmark(Junk|Faults|GuardFlood|Gateway|Fleet|Guard)$", slow: true},
		selection{pkg: peers, bench: "^BenchmarkGuard$/^lib=(chattoken|flat-table|mutex-map)$/^tokens=8M$", slow: true, large: true},
	)}
}

const (
	rounds    = 18                    // half are 9, of which the interval leaves out the first and the last
	benchtime = 25 * time.Millisecond // long enough for caches to be warm and for some of the garbage
)

// checkPlan has every benchmark that a checked goal names. Those that differ
// only in op share their set-up.
func checkPlan(goals []goal) plan {
	p := plan{rounds: rounds}
	seen := map[string]bool{"": true}
	for _, g := range goals {
		for _, name := range []string{g.of.benchmark, g.to.benchmark} {
			name, _, _ = strings.Cut(name, "/op=")
			if !g.checked || seen[name] {
				continue
			}
			seen[name] = true
			pattern := "^Benchmark" + strings.ReplaceAll(regexp.QuoteMeta(name), "/", "$/^") + "$"
			pkg := library
			if strings.Contains(name, "/lib=") {
				pkg = peers
			}
			p.runs = append(p.runs, selection{pkg: pkg, bench: pattern, slow: strings.HasPrefix(name, "Crowd/")})
		}
	}
	return p
}

// measure returns the benchmarks' output. The error names those that failed.
func measure(p plan) (string, error) {
	dir, err := os.MkdirTemp("", "chattoken-bench-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	for _, pkg := range []string{library, peers} {
		cmd := exec.Command("go", "test", "-c", "-o", binary(dir, pkg), ".")
		cmd.Dir, cmd.Stderr = pkg, os.Stderr
		if err := cmd.Run(); err != nil {
			return "", fmt.Errorf("building the tests of %s: %w", pkg, err)
		}
	}
	var text strings.Builder
	var failed []error
	for round := range p.rounds {
		began := time.Now()
		text.WriteString(roundMark)
		for _, s := range p.runs {
			if s.slow && round%2 > 0 {
				continue
			}
			out, err := s.run(dir)
			text.Write(out)
			if err != nil {
				failed = append(failed, fmt.Errorf("round %d, %s: %w\n%s", round+1, s.bench, err, out))
			}
		}
		log.Printf("round %d of %d: %v", round+1, p.rounds, time.Since(began).Round(time.Second))
	}
	return text.String(), errors.Join(failed...)
}

func binary(dir, pkg string) string {
	return filepath.Join(dir, map[string]string{library: "library.test", peers: "peers.test"}[pkg])
}

func (s selection) run(dir string) ([]byte, error) {
	cmd := exec.Command(binary(dir, s.pkg), "-test.run=^$", "-test.benchmem", "-test.timeout=10m",
		"-test.bench="+s.bench, "-test.skip="+s.skip, "-test.benchtime="+benchtime.String(),
		fmt.Sprintf("-test.short=%t", !s.large))
	cmd.Dir, cmd.Stderr = s.pkg, os.Stderr
	return cmd.Output()
}
