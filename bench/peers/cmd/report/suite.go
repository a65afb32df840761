package main

import (
	"bytes"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Packages with benchmarks, by their directories relative to this module.
const (
	library = ".."
	peers   = "."
)

// A suite is their test binaries.
type suite struct {
	dir  string            // temporary
	file map[string]string // by package
}

func build() (*suite, error) {
	dir, err := os.MkdirTemp("", "chattoken-bench-")
	if err != nil {
		return nil, err
	}
	s := &suite{dir: dir, file: make(map[string]string)}
	for _, pkg := range []string{library, peers} {
		s.file[pkg] = filepath.Join(dir, fmt.Sprintf("%d.test", len(s.file)))
		cmd := exec.Command("go", "test", "-c", "-o", s.file[pkg], ".")
		cmd.Dir, cmd.Stderr = pkg, os.Stderr
		if err := cmd.Run(); err != nil {
			s.remove()
			return nil, fmt.Errorf("building the tests of %s: %w", pkg, err)
		}
	}
	return s, nil
}

func (s *suite) remove() { os.RemoveAll(s.dir) }

// command runs a test binary where its package is.
func (s *suite) command(pkg string, args ...string) *exec.Cmd {
	cmd := exec.Command(s.file[pkg], args...)
	cmd.Dir, cmd.Stderr = pkg, os.Stderr
	return cmd
}

// packageOf returns the package of a benchmark, and "" where there is none.
func (s *suite) packageOf(benchmark string) string {
	top, _, _ := strings.Cut(benchmark, "/")
	for pkg := range s.file {
		out, err := s.command(pkg, "-test.list=^Benchmark"+regexp.QuoteMeta(top)+"$").Output()
		if err == nil && len(out) > 0 {
			return pkg
		}
	}
	return ""
}

// A phase is benchmarks that take turns, for some rounds.
type phase struct {
	title     string
	rounds    int
	benchtime time.Duration
	short     bool // as of go test
	runs      []selection
}

// A selection is what to run of one package: patterns as of go test -bench and
// -skip. An empty skip skips nothing.
type selection struct {
	pkg, bench, skip string
	pieces           int // in how many the benchtime is measured, each for itself; 0 is 1
}

// plan is what is measured for the report.
func plan(quick bool) []phase {
	tokens := phase{"tokens", 24, 25 * time.Millisecond, true, []selection{
		{pkg: library, bench: ".", skip: "^BenchmarkGuard"},
		{pkg: peers, bench: "^Benchmark(Mint|Verify|Bytes)$"},
		{pkg: peers, bench: "^Benchmark(VerifyParallel|Forged)$/./^small$"},
	}}
	guards := phase{"guards with a million tokens", 6, 100 * time.Millisecond, true, []selection{
		{pkg: library, bench: "^BenchmarkGuard"},
		{pkg: peers, bench: "^BenchmarkGuardPeer$"},
	}}
	faults := phase{"junk and faults", 2, 100 * time.Millisecond, true, []selection{
		{pkg: peers, bench: "^BenchmarkVerify$/^chattoken$/^small$"}, // what the junk is compared with
		{pkg: peers, bench: "^Benchmark(Junk|Faults|GuardFlood)$"},
	}}
	large := phase{"guards with eight million tokens", 3, 200 * time.Millisecond, false, []selection{
		{pkg: library, bench: "^BenchmarkGuard$/./^8M$|^BenchmarkGuardBaseline$/././^8M$"},
		{pkg: peers, bench: "^BenchmarkGuardPeer$/./^8M$"},
	}}
	if quick {
		tokens.rounds, guards.rounds, faults.rounds = 6, 1, 1
		return []phase{tokens, guards, faults}
	}
	return []phase{tokens, guards, faults, large}
}

// run adds to m what the benchmarks of p measure.
func (s *suite) run(p phase, m *measurements) error {
	begin := time.Now()
	m.phases = append(m.phases, fmt.Sprintf("%s %d", p.title, p.rounds))
	for range p.rounds {
		m.nextRound()
		for _, sel := range p.runs {
			if err := s.bench(sel, p, m); err != nil {
				return err
			}
		}
	}
	log.Printf("%s: %d rounds in %v", p.title, p.rounds, time.Since(begin).Round(time.Second))
	return nil
}

func (s *suite) bench(sel selection, p phase, m *measurements) error {
	pieces := max(sel.pieces, 1)
	cmd := s.command(sel.pkg, "-test.run=^$", "-test.benchmem", "-test.timeout=1h",
		"-test.bench="+sel.bench, "-test.skip="+sel.skip,
		"-test.benchtime="+(p.benchtime/time.Duration(pieces)).String(), "-test.count="+strconv.Itoa(pieces),
		"-test.short="+strconv.FormatBool(p.short))
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", sel.bench, err, out)
	}
	return m.read(bytes.NewReader(out))
}
