// Testall vets and tests modules and says what ran.
//
// Usage:
//
//	testall dir... [-- [go test flags]]
//
// In each module directory it runs go vet ./... and go test ./..., with
// -count=1 so that what is counted is what ran. It ends with the counts of each
// module, the reasons for what was skipped, and a last line of the form
//
//	12 passed, 0 failed, 1 skipped
//
// Its exit status is 0 if nothing failed. A module that cannot be vetted or
// built, and one in which no test ran, is a failure. With CHATTOKEN_REQUIRE=1 a
// skip is one too: where everything is installed, nothing may be left out but
// what the machine does not allow.
//
// A -- marks another build or fewer tests, by the flags that follow or by the
// environment. Then a test may skip itself as not applicable, and it is enough
// that some test ran in some module.
package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/seed17cb2b26/chattoken/tools/internal/testsum"
)

func main() {
	r := runner{out: os.Stdout, ordinary: true, require: os.Getenv("CHATTOKEN_REQUIRE") == "1"}
	dirs := os.Args[1:]
	if i := slices.Index(dirs, "--"); i >= 0 {
		dirs, r.flags, r.ordinary = dirs[:i], dirs[i+1:], false
	}
	if len(dirs) == 0 {
		fmt.Fprintln(os.Stderr, "usage: testall dir... [-- [go test flags]]")
		os.Exit(2)
	}
	if total := r.run(dirs); total.Failed > 0 {
		os.Exit(1)
	}
}

type runner struct {
	out      io.Writer
	flags    []string // of go test
	ordinary bool     // all tests of all modules, as they are
	require  bool     // in an ordinary run a skip is a failure
}

// run tests the modules in dirs, prints what they came to, and returns it.
func (r runner) run(dirs []string) testsum.Summary {
	sums := make([]testsum.Summary, len(dirs))
	var total testsum.Summary
	for i, dir := range dirs {
		fmt.Fprintf(r.out, "# module %s\n", dir)
		sums[i] = r.judge(dir, r.module(dir))
		total.Add(sums[i])
	}
	if total.Total() == 0 {
		total.Failed++
		fmt.Fprintln(r.out, "testall: no test ran")
	}
	fmt.Fprintln(r.out)
	for i, dir := range dirs {
		r.print(dir, sums[i])
	}
	fmt.Fprintln(r.out, total)
	return total
}

// print prints one module's counts and why it skipped what it skipped.
func (r runner) print(dir string, s testsum.Summary) {
	fmt.Fprintf(r.out, "module %s: %v\n", dir, s)
	for _, reason := range slices.Sorted(maps.Keys(s.Reasons)) {
		fmt.Fprintf(r.out, "\tskipped %d: %s\n", s.Reasons[reason], reason)
	}
}

// judge turns into failures what an ordinary run may not leave out.
func (r runner) judge(dir string, s testsum.Summary) testsum.Summary {
	if s.Total() == 0 && r.ordinary {
		s.Failed++
		fmt.Fprintf(r.out, "testall: %s: no test ran\n", dir)
	}
	if !r.ordinary || !r.require {
		return s
	}
	missing := 0
	for reason, n := range s.Reasons {
		if !strings.HasPrefix(reason, "NOT ALLOWED HERE: ") { // by testenv.NotAllowed
			missing += n
		}
	}
	if missing > 0 {
		fmt.Fprintf(r.out, "testall: %s: %d skipped, but CHATTOKEN_REQUIRE=1\n", dir, missing)
		s.Failed, s.Skipped = s.Failed+missing, s.Skipped-missing
	}
	return s
}

// module vets and tests the module in dir. A command that fails without a
// failing test to show for it counts as one failure.
func (r runner) module(dir string) testsum.Summary {
	if err := r.command(dir, "vet", "./...").Run(); err != nil {
		return r.failed(dir, "go vet", err)
	}
	s, err := r.test(dir)
	if err != nil && s.Failed == 0 {
		s.Add(r.failed(dir, "go test", err))
	}
	return s
}

func (r runner) failed(dir, what string, err error) testsum.Summary {
	fmt.Fprintf(r.out, "testall: %s: %s: %v\n", dir, what, err)
	return testsum.Summary{Failed: 1}
}

// test runs go test and counts its results as they come.
func (r runner) test(dir string) (testsum.Summary, error) {
	args := append([]string{"test", "-json", "-count=1"}, r.flags...)
	cmd := r.command(dir, append(args, "./...")...)
	events, err := cmd.StdoutPipe()
	if err != nil {
		return testsum.Summary{}, err
	}
	if err := cmd.Start(); err != nil {
		return testsum.Summary{}, err
	}
	s, readErr := testsum.Read(events, r.out)
	_, drainErr := io.Copy(io.Discard, events) // or go test would wait for ever
	return s, errors.Join(readErr, drainErr, cmd.Wait())
}

// command returns a go command to be run in dir, with its complaints on ours.
func (r runner) command(dir string, args ...string) *exec.Cmd {
	cmd := exec.Command("go", args...)
	cmd.Dir = dir
	cmd.Stderr = r.out
	return cmd
}
