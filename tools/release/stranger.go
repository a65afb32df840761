package main

import (
	"bytes"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"
	"golang.org/x/mod/zip"
)

// stranger makes a stranger's module that gets the given module versions.
func (r *rehearsal) stranger(versions ...string) (string, error) {
	dir, err := os.MkdirTemp(r.tmp, "stranger")
	if err != nil {
		return "", err
	}
	if _, err := r.command(dir, "go", "mod", "init", "example.com/stranger"); err != nil {
		return "", err
	}
	_, err = r.command(dir, "go", append([]string{"get"}, versions...)...)
	return dir, err
}

// use gets a module, builds it, and installs and runs its commands.
func (r *rehearsal) use(m *mod) error {
	dir, err := r.stranger(m.path() + "@" + r.version)
	if err != nil {
		return err
	}
	list, err := r.command(dir, "go", "list", "-m", "-f={{.Path}}@{{.Version}}", "all")
	if err != nil {
		return err
	}
	for _, v := range strings.Fields(string(list)) {
		if p, version, _ := strings.Cut(v, "@"); r.ours(p) && version != r.version {
			return fmt.Errorf("go get %s@%s gets %s", m.path(), r.version, v)
		}
	}
	if _, err := r.command(dir, "go", "build", m.path()+"/..."); err != nil {
		return err
	}
	r.say("%s: go get, go build", m.path())
	mains, err := r.command(dir, "go", "list", `-f={{if eq .Name "main"}}{{.ImportPath}}{{end}}`, m.path()+"/...")
	if err != nil {
		return err
	}
	for _, p := range strings.Fields(string(mains)) {
		if strings.HasPrefix(p, m.path()+"/cmd/") {
			if err := r.install(p); err != nil {
				return err
			}
		}
	}
	return nil
}

// install installs a command and asks it for help, also by go run.
func (r *rehearsal) install(pkg string) error {
	empty, err := os.MkdirTemp(r.tmp, "empty")
	if err != nil {
		return err
	}
	version := pkg + "@" + r.version
	if _, err := r.command(empty, "go", "install", version); err != nil {
		return err
	}
	installed := filepath.Join(r.tmp, "bin", path.Base(pkg))
	for _, run := range [][]string{{installed, "-h"}, {"go", "run", version, "-h"}} {
		if _, err := r.command(empty, run[0], run[1:]...); err != nil {
			return err
		}
	}
	r.say("%s: go install, go run", pkg)
	return nil
}

// readme compiles the Go snippets of README.md, each alone, in a module that
// has all of ours.
func (r *rehearsal) readme() error {
	readme, err := os.ReadFile(filepath.Join(r.top, "README.md"))
	if err != nil {
		return err
	}
	var versions, patterns []string
	for _, m := range r.modules {
		versions = append(versions, m.path()+"@"+r.version)
		patterns = append(patterns, m.path()+"/...")
	}
	dir, err := r.stranger(versions...)
	if err != nil {
		return err
	}
	standard, err := r.command(dir, "go", "list", "std")
	if err != nil {
		return err
	}
	own, err := r.command(dir, "go", append([]string{"list"}, patterns...)...)
	if err != nil {
		return err
	}
	found := snippets(string(readme))
	for i, s := range found {
		program, err := s.program(strings.Fields(string(own)), strings.Fields(string(standard)))
		if err != nil {
			return fmt.Errorf("README.md:%d: %w", s.line, err)
		}
		name := filepath.Join(dir, fmt.Sprint("snippet", i), "main.go")
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(name, program, 0o644); err != nil {
			return err
		}
	}
	if len(found) > 0 {
		if _, err := r.command(dir, "go", "vet", "./..."); err != nil {
			return err
		}
	}
	r.say("README.md: %d snippets compile", len(found))
	return nil
}

// publishBefore publishes the last release before this one, from its tags. It
// returns the version of each of its modules.
func (r *rehearsal) publishBefore() (map[*mod]string, error) {
	tags, err := command(r.top, nil, "git", "tag")
	if err != nil {
		r.say("no tags, because git fails: %v", err)
		return nil, nil
	}
	before := make(map[*mod]string)
	for _, m := range r.modules {
		tag := m.before(strings.Fields(string(tags)), r.version)
		if tag == "" {
			continue
		}
		before[m] = path.Base(tag)
		v := module.Version{Path: m.path(), Version: before[m]}
		var archive bytes.Buffer
		if err := zip.CreateFromVCS(&archive, v, r.top, tag, strings.TrimPrefix(m.dir, ".")); err != nil {
			return nil, err
		}
		if err := publish(r.proxy(), v, archive.Bytes()); err != nil {
			return nil, err
		}
	}
	return before, nil
}

// before returns the tag of the module's last release before a version, or "".
func (m *mod) before(tags []string, version string) (last string) {
	for _, tag := range tags {
		v := tag
		if m.dir != "." {
			var nested bool
			if v, nested = strings.CutPrefix(tag, m.dir+"/"); !nested {
				continue
			}
		}
		if semver.IsValid(v) && semver.Compare(v, version) < 0 && (last == "" || semver.Compare(v, path.Base(last)) > 0) {
			last = tag
		}
	}
	return last
}

// pair builds the last release's nested modules with this root, as after an
// upgrade of the root alone. The opposite can't happen, because a nested module
// requires at least the root of its own release.
func (r *rehearsal) pair(before map[*mod]string) error {
	if len(before) == 0 {
		r.say("no earlier release to pair this root with")
	}
	root := r.root + "@" + r.version
	for m, version := range before {
		if m.dir == "." {
			continue
		}
		dir, err := r.stranger(m.path()+"@"+version, root)
		if err != nil {
			return err
		}
		_, err = r.command(dir, "go", "build", m.path()+"/...")
		switch {
		case err == nil:
			r.say("%s@%s: builds with this root", m.path(), version)
		case mayBreak(version, r.version):
			r.say("%s@%s: does NOT build with this root; NEWS.md has to say so", m.path(), version)
		default:
			return err
		}
	}
	return nil
}

// mayBreak reports whether a release may break its users: a major version may,
// and before v1 a minor one.
func mayBreak(from, to string) bool {
	return semver.Major(to) == "v0" && semver.MajorMinor(from) != semver.MajorMinor(to) || semver.Major(from) != semver.Major(to)
}
