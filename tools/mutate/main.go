// Mutate shows that the tests notice faults. It puts one fault at a time into a
// copy of the module, such as < in place of <= at a deadline or a check that is
// left out, and runs the tests that are there to notice.
//
// Usage, in the root of the module:
//
//	mutate [part of a file's or a fault's name]
//
// For each fault it prints whether it was caught, and ends with the counts. The
// tests beside the code have to catch it: what they miss and the corpora of
// package fuzz notice is listed apart, and is not enough, because a corpus says
// that something is wrong but hardly what. The exit status is 0 if all faults
// were caught. A fault whose snippet is not in the file exactly once, or that
// does not compile, is an error: the list has to follow the code.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

func main() {
	if len(os.Args) > 2 {
		fmt.Fprintln(os.Stderr, "usage: mutate [part of a file's or a fault's name]")
		os.Exit(2)
	}
	selected := strings.Join(os.Args[1:], "")
	if err := run(selected); err != nil {
		fmt.Fprintln(os.Stderr, "mutate:", err)
		os.Exit(1)
	}
}

// workers is how many faults are tried at once, each in a copy of its own. The
// tests of most packages keep one processor busy.
const workers = 2

func run(selected string) error {
	tmp, err := os.MkdirTemp("", "mutate")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	chosen := choose(selected)
	if len(chosen) == 0 {
		return errors.New("no fault has that name")
	}
	queue := make(chan fault, len(chosen))
	for _, f := range chosen {
		queue <- f
	}
	close(queue)
	var all tally
	var wg sync.WaitGroup
	for i := range workers {
		dir := filepath.Join(tmp, fmt.Sprint(i))
		if err := copyModule(dir, "."); err != nil {
			return err
		}
		if i == 0 {
			if err := baseline(dir, chosen); err != nil {
				return err
			}
		}
		wg.Go(func() {
			for f := range queue {
				all.add(f, try(dir, f))
			}
		})
	}
	wg.Wait()
	return all.report()
}

func choose(selected string) (chosen []fault) {
	for _, f := range faults {
		if strings.Contains(f.file+": "+f.name, selected) {
			chosen = append(chosen, f)
		}
	}
	return chosen
}

// baseline checks that the tests pass without a fault. Otherwise they would
// seem to catch everything.
func baseline(dir string, chosen []fault) error {
	var sets []string
	for _, f := range chosen {
		sets = append(sets, f.tests)
	}
	slices.Sort(sets)
	for _, packages := range append(slices.Compact(sets), corpora) {
		caught, out, err := test(dir, packages)
		if caught {
			err = errors.New("a test fails without a fault")
		}
		if err != nil {
			return fmt.Errorf("%s: %w\n%s", packages, err, out)
		}
	}
	return nil
}

// corpora is the package whose seeds are tried on what the tests missed.
const corpora = "./fuzz"

var (
	errMissed   = errors.New("missed")
	errOnlyFuzz = errors.New("only the corpora of " + corpora + " catch it")
)

// try puts a fault into the copy, tests, and takes it out again.
func try(dir string, f fault) error {
	file := filepath.Join(dir, f.file)
	original, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	changed, err := f.apply(string(original))
	if err != nil {
		return err
	}
	if err := os.WriteFile(file, []byte(changed), 0o644); err != nil {
		return err
	}
	return errors.Join(judge(dir, f.tests), os.WriteFile(file, original, 0o644))
}

// judge tests a copy that has a fault in it. The error is nil if the tests
// notice.
func judge(dir, tests string) error {
	for _, packages := range []string{tests, corpora} {
		caught, out, err := test(dir, packages)
		switch {
		case err != nil:
			return fmt.Errorf("%w\n%s", err, out)
		case caught && packages == corpora:
			return errOnlyFuzz
		case caught:
			return nil
		}
	}
	return errMissed
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

// test runs the tests of some packages and reports whether one failed. The
// error is that they do not compile.
func test(dir, packages string) (caught bool, out []byte, err error) {
	args := []string{"test", "-short", "-failfast", "-vet=off", "-timeout=3m"}
	cmd := exec.Command("go", append(args, strings.Fields(packages)...)...)
	cmd.Dir = dir
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

// copyModule copies the files of the module that tests may need.
func copyModule(dst, src string) error {
	return fs.WalkDir(os.DirFS(src), ".", func(name string, d fs.DirEntry, err error) error {
		target := filepath.Join(dst, name)
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != "." && (name[0] == '.' || isModule(filepath.Join(src, name))):
			return fs.SkipDir
		case d.IsDir():
			return os.MkdirAll(target, 0o755)
		case !d.Type().IsRegular() || name == "go.work":
			return nil
		}
		data, err := os.ReadFile(filepath.Join(src, name))
		if err != nil {
			return err
		}
		return os.WriteFile(target, data, 0o644)
	})
}

func isModule(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "go.mod"))
	return err == nil
}

// tally counts outcomes. It is safe for concurrent use.
type tally struct {
	mu                               sync.Mutex
	caught, onlyFuzz, missed, failed int
}

func (t *tally) add(f fault, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case err == nil:
		t.caught++
		fmt.Println("mutate: caught:", f.name)
	case errors.Is(err, errOnlyFuzz):
		t.onlyFuzz++
		fmt.Printf("mutate: ONLY FUZZ: %s (%s, missed by the tests of %s)\n", f.name, f.file, f.tests)
	case errors.Is(err, errMissed):
		t.missed++
		fmt.Printf("mutate: MISSED: %s (%s, by the tests of %s)\n", f.name, f.file, f.tests)
	default:
		t.failed++
		fmt.Printf("mutate: ERROR: %s: %v\n", f.name, err)
	}
}

func (t *tally) report() error {
	fmt.Printf("mutate: %d caught, %d by %s only, %d missed, %d errors\n", t.caught, t.onlyFuzz, corpora, t.missed, t.failed)
	if t.onlyFuzz+t.missed+t.failed > 0 {
		return errors.New("not every fault was caught")
	}
	return nil
}
