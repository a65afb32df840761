// Package testsum counts what go test -json reports.
//
// Use [Read] on the stream of one go test run and [Summary.Add] for a total.
// The format is that of go doc test2json.
package testsum

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
)

// A Summary counts results. Tests, subtests, examples and fuzz seeds count one
// each, so a failing subtest counts twice: it fails its parent too. A test
// that never ended counts as failed, and so does a package that failed without
// a failing test, because it did not build or its process died.
//
// The zero value is an empty Summary.
type Summary struct {
	Passed, Failed, Skipped int

	// Reasons counts the skips by the reason they gave. It may be nil.
	Reasons map[string]int
}

// Add adds the counts of o, which it does not retain.
func (s *Summary) Add(o Summary) {
	s.Passed += o.Passed
	s.Failed += o.Failed
	s.Skipped += o.Skipped
	for reason, n := range o.Reasons {
		s.addReason(reason, n)
	}
}

func (s *Summary) addReason(reason string, n int) {
	if s.Reasons == nil {
		s.Reasons = make(map[string]int)
	}
	s.Reasons[reason] += n
}

// Total returns the number of results.
func (s Summary) Total() int {
	return s.Passed + s.Failed + s.Skipped
}

// String returns the counts as "1 passed, 2 failed, 3 skipped".
func (s Summary) String() string {
	return fmt.Sprintf("%d passed, %d failed, %d skipped", s.Passed, s.Failed, s.Skipped)
}

// An event is one line of the stream.
type event struct {
	Action  string
	Package string
	Test    string // empty for an event of the whole package
	Output  string
}

// Read reads events from r until it ends and returns what they come to. It
// writes to w what go test would print without -v: a line for each package,
// and everything that a failing test said. A line that is not an event, or an
// error of r or w, ends it early with an error and the counts so far.
func Read(r io.Reader, w io.Writer) (Summary, error) {
	in := bufio.NewReader(r)
	c := counter{w: w, packages: make(map[string]*progress)}
	for {
		line, err := in.ReadBytes('\n')
		if err == io.EOF && len(line) == 0 {
			return c.sum, nil
		}
		if err != nil && err != io.EOF {
			return c.sum, err
		}
		if err := c.line(line); err != nil {
			return c.sum, err
		}
	}
}

// A counter is the state of Read. Packages run at the same time, so that their
// events are interleaved.
type counter struct {
	w        io.Writer
	sum      Summary
	packages map[string]*progress
}

// progress is how far one package has come.
type progress struct {
	running map[string]*bytes.Buffer // the output of the tests that have not ended
	failed  bool                     // a test did
}

func (c *counter) line(b []byte) error {
	var e event
	if err := json.Unmarshal(b, &e); err != nil {
		return fmt.Errorf("testsum: not a test event: %q", b)
	}
	p := c.packages[e.Package]
	if p == nil {
		p = &progress{running: make(map[string]*bytes.Buffer)}
		c.packages[e.Package] = p
	}
	if e.Test != "" {
		return c.test(p, e)
	}
	return c.pkg(p, e)
}

// pkg handles an event of a whole package, or of a build.
func (c *counter) pkg(p *progress, e event) error {
	switch e.Action {
	case "output", "build-output":
		if e.Output == "PASS\n" {
			return nil // the package's own line, which follows, says it too
		}
		_, err := io.WriteString(c.w, e.Output)
		return err
	case "fail":
		return c.pkgFailed(p)
	}
	return nil
}

// pkgFailed counts the tests that were running when the package failed, and
// the package itself if no test can be blamed.
func (c *counter) pkgFailed(p *progress) error {
	for _, name := range slices.Sorted(maps.Keys(p.running)) {
		if err := c.testFailed(p, name); err != nil {
			return err
		}
	}
	if !p.failed {
		c.sum.Failed++
	}
	return nil
}

// test handles an event of one test.
func (c *counter) test(p *progress, e event) error {
	out := p.running[e.Test]
	if out == nil {
		out = new(bytes.Buffer)
		p.running[e.Test] = out
	}
	switch e.Action {
	case "output":
		out.WriteString(e.Output)
	case "pass":
		c.sum.Passed++
		delete(p.running, e.Test)
	case "skip":
		c.sum.Skipped++
		c.sum.addReason(skipReason(out.Bytes()), 1)
		delete(p.running, e.Test)
	case "fail":
		return c.testFailed(p, e.Test)
	}
	return nil
}

func (c *counter) testFailed(p *progress, name string) error {
	c.sum.Failed++
	p.failed = true
	_, err := p.running[name].WriteTo(c.w)
	delete(p.running, name)
	return err
}

// logLine matches what a test logs, on one line or, indented further, several.
var logLine = regexp.MustCompile(`(?m)^ +\S+\.go:\d+: (.*(?:\n {8}.*)*)$`)

// skipReason returns the last thing that a skipped test logged, which is what
// it gave to Skip, in one line.
func skipReason(out []byte) string {
	logged := logLine.FindAllSubmatch(out, -1)
	if len(logged) == 0 {
		return "no reason given"
	}
	reason := bytes.Fields(logged[len(logged)-1][1])
	return string(bytes.Join(reason, []byte(" ")))
}
