// Mutate shows that the tests notice faults. It compiles one fault at a time
// into the code, such as < in place of <= at a deadline or a missing check, and
// runs the tests that must notice.
//
// Usage, in the root of the tree:
//
//	mutate [part of a file's or a fault's name]
//
// For each fault it prints whether the tests caught it, and ends with the
// counts. The tests beside the code must catch it: a fuzzer or another module
// tells that something is wrong, but hardly what. The exit status is 0 if the
// tests caught all faults. A fault is an error if its snippet isn't in the file
// exactly once, or if it doesn't compile. So the list follows the code.
//
// Faults are overlays of the go command, so Mutate changes no file of the tree.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"sync"
)

func main() {
	if len(os.Args) > 2 {
		fmt.Fprintln(os.Stderr, "usage: mutate [part of a file's or a fault's name]")
		os.Exit(2)
	}
	if err := run(choose(strings.Join(os.Args[1:], ""))); err != nil {
		fmt.Fprintln(os.Stderr, "mutate:", err)
		os.Exit(1)
	}
}

// workers is how many faults run at once. Most packages' tests keep one
// processor busy.
const workers = 2

func run(chosen []suite) error {
	if len(chosen) == 0 {
		return errors.New("no fault has that name")
	}
	tmp, err := os.MkdirTemp("", "mutate")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	type job struct {
		suite
		fault
	}
	var jobs []job
	for _, s := range chosen {
		if err := s.baseline(); err != nil {
			return err
		}
		for _, f := range s.faults {
			jobs = append(jobs, job{s, f})
		}
	}
	queue := make(chan job, len(jobs))
	for _, j := range jobs {
		queue <- j
	}
	close(queue)
	var all tally
	var wg sync.WaitGroup
	for i := range workers {
		wg.Go(func() {
			overlay := filepath.Join(tmp, fmt.Sprint(i))
			for j := range queue {
				all.add(j.suite, j.fault, j.try(j.fault, overlay))
			}
		})
	}
	wg.Wait()
	return all.report()
}

// choose returns the suites with only the faults that match the name.
func choose(part string) (chosen []suite) {
	for _, s := range suites {
		var faults []fault
		for _, f := range s.faults {
			if strings.Contains(path.Join(s.dir, f.file)+": "+f.name, part) {
				faults = append(faults, f)
			}
		}
		if s.faults = faults; len(faults) > 0 {
			chosen = append(chosen, s)
		}
	}
	return chosen
}

// baseline checks that the tests pass without a fault. Otherwise they would
// seem to catch every fault.
func (s suite) baseline() error {
	caught, out, err := s.test("")
	if caught {
		err = errors.New("a test fails without a fault")
	}
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", s.dir, err, out)
	}
	return nil
}

var errMissed = errors.New("missed")

// try runs the tests on a fault. It returns nil if they notice. It writes files
// whose names begin with overlay.
func (s suite) try(f fault, overlay string) error {
	file, err := filepath.Abs(filepath.Join(s.dir, f.file))
	if err != nil {
		return err
	}
	source, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	changed, err := f.apply(string(source))
	if err != nil {
		return err
	}
	replace, err := json.Marshal(map[string]any{"Replace": map[string]string{file: overlay + ".go"}})
	if err != nil {
		return err
	}
	err = errors.Join(os.WriteFile(overlay+".go", []byte(changed), 0o600), os.WriteFile(overlay+".json", replace, 0o600))
	if err != nil {
		return err
	}
	caught, out, err := s.test(overlay + ".json")
	switch {
	case err != nil:
		return fmt.Errorf("%w\n%s", err, out)
	case !caught:
		return errMissed
	}
	return nil
}

// apply returns the source with the fault in it.
func (f fault) apply(source string) (string, error) {
	for _, e := range f.edits {
		if n := strings.Count(source, e.old); n != 1 {
			return "", fmt.Errorf("%s has %d of the snippet %q, not one", f.file, n, e.old)
		}
		source = strings.Replace(source, e.old, e.new, 1)
	}
	return source, nil
}

// test runs the tests and reports whether one failed. It returns an error if
// they don't compile. An overlay also applies to what the tests build.
func (s suite) test(overlay string) (caught bool, out []byte, err error) {
	args := []string{"test", "-short", "-failfast", "-vet=off", "-timeout=3m"}
	cmd := exec.Command("go", append(args, strings.Fields(s.tests)...)...)
	cmd.Dir = s.dir
	if overlay != "" {
		cmd.Env = append(os.Environ(), "GOFLAGS=-overlay="+overlay)
	}
	out, err = cmd.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return false, nil, nil
	case !errors.As(err, &exit):
		return false, out, err
	case bytes.Contains(out, []byte("[build failed]")) || bytes.Contains(out, []byte("[setup failed]")):
		return false, out, errors.New("does not compile")
	}
	return true, out, nil
}

// tally counts outcomes. It is safe for concurrent use.
type tally struct {
	mu                     sync.Mutex
	caught, missed, failed int
}

func (t *tally) add(s suite, f fault, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	file := path.Join(s.dir, f.file)
	switch err {
	case nil:
		t.caught++
		fmt.Printf("mutate: caught: %s: %s\n", file, f.name)
	case errMissed:
		t.missed++
		fmt.Printf("mutate: MISSED: %s: %s (by %s)\n", file, f.name, s.tests)
	default:
		t.failed++
		fmt.Printf("mutate: ERROR: %s: %s: %v\n", file, f.name, err)
	}
}

func (t *tally) report() error {
	fmt.Printf("mutate: %d caught, %d missed, %d errors\n", t.caught, t.missed, t.failed)
	if t.missed+t.failed > 0 {
		return errors.New("not every fault was caught")
	}
	return nil
}
