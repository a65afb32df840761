package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"
	"golang.org/x/mod/zip"
)

// A tree is a directory with a root module and those nested below it.
type tree struct {
	top     string
	version string // of the release: all modules have the same
	modules []*mod // each after those that it requires
	root    string // the root module's path
}

// ours reports whether path is a module of the tree.
func (t *tree) ours(p string) bool { return p == t.root || strings.HasPrefix(p, t.root+"/") }

// A mod is a module of the tree.
type mod struct {
	dir  string // below the top, "." for the root
	file *modfile.File
}

func (m *mod) path() string { return m.file.Module.Mod.Path }

// readTree finds the modules below top, without the one in tools, which is
// never released.
func readTree(top string) (*tree, error) {
	t := &tree{top: top}
	err := walk(top, func(name string) error {
		dir := path.Dir(name)
		if path.Base(name) != "go.mod" || dir == "tools" || slices.Contains(strings.Split(dir, "/"), "testdata") {
			return nil
		}
		data, err := os.ReadFile(filepath.Join(top, name))
		if err != nil {
			return err
		}
		file, err := modfile.Parse(name, data, nil)
		if err != nil {
			return err
		}
		t.modules = append(t.modules, &mod{dir: dir, file: file})
		return nil
	})
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(filepath.Join(top, "go.work"))
	if err != nil {
		return nil, err
	}
	work, err := modfile.ParseWork("go.work", data, nil)
	if err != nil {
		return nil, err
	}
	return t, t.check(work)
}

// walk calls f with the slash-separated name of each file below top, except
// git's and npm's.
func walk(top string, f func(name string) error) error {
	return fs.WalkDir(os.DirFS(top), ".", func(name string, d fs.DirEntry, err error) error {
		base := path.Base(name)
		switch {
		case err != nil:
			return err
		case d.IsDir() && (base == ".git" || base == "node_modules"):
			return fs.SkipDir
		case d.Type().IsRegular() && base != ".git": // of a worktree
			return f(name)
		}
		return nil
	})
}

// check sorts the modules and sets the version. It fails if the tree can't be
// released.
func (t *tree) check(work *modfile.WorkFile) error {
	root := slices.IndexFunc(t.modules, func(m *mod) bool { return m.dir == "." })
	if root < 0 {
		return errors.New("no go.mod at the top")
	}
	t.root = t.modules[root].path()
	var problems []error
	problem := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	requires := make(map[*mod][]string)
	for _, m := range t.modules {
		if want := path.Join(t.root, m.dir); m.path() != want {
			problem("%s/go.mod: the path is %s, not %s", m.dir, m.path(), want)
		}
		if len(m.file.Replace)+len(m.file.Exclude) > 0 {
			problem("%s/go.mod: go install refuses a module with replace or exclude", m.dir)
		}
		for _, r := range m.file.Require {
			if !t.ours(r.Mod.Path) {
				continue
			}
			requires[m] = append(requires[m], r.Mod.Path)
			switch {
			case !semver.IsValid(r.Mod.Version) || semver.Prerelease(r.Mod.Version) != "":
				problem("%s/go.mod: requires %v, which is no release", m.dir, r.Mod)
			case t.version == "":
				t.version = r.Mod.Version
			case t.version != r.Mod.Version:
				problem("%s/go.mod: requires %v where others are at %s", m.dir, r.Mod, t.version)
			}
			replaced := slices.ContainsFunc(work.Replace, func(w *modfile.Replace) bool { return w.Old == r.Mod })
			if !replaced {
				problem("go.work: no replace for %v", r.Mod)
			}
		}
		used := slices.ContainsFunc(work.Use, func(u *modfile.Use) bool { return path.Clean(u.Path) == m.dir })
		if !used {
			problem("go.work: does not use %s", m.dir)
		}
	}
	if t.version == "" {
		problem("no nested module requires another, so the version of the release is unknown")
	}
	if len(problems) > 0 {
		return errors.Join(problems...)
	}
	return t.sort(requires)
}

// sort puts each module after those that it requires.
func (t *tree) sort(requires map[*mod][]string) error {
	var sorted []*mod
	done := make(map[string]bool)
	ready := func(m *mod) bool {
		return !done[m.path()] && !slices.ContainsFunc(requires[m], func(p string) bool { return !done[p] })
	}
	for range t.modules {
		i := slices.IndexFunc(t.modules, ready)
		if i < 0 {
			return errors.New("some modules require each other, or one that is not in the tree")
		}
		done[t.modules[i].path()] = true
		sorted = append(sorted, t.modules[i])
	}
	t.modules = sorted
	return nil
}

// zip writes the zip that the go command would make of a module's tag. Like the
// go command, it gives a nested module without a LICENSE that of the root.
func (t *tree) zip(w io.Writer, m *mod) error {
	dir := filepath.Join(t.top, m.dir)
	var files []zip.File
	licensed := false
	err := walk(dir, func(name string) error {
		files = append(files, file{name, filepath.Join(dir, name)})
		licensed = licensed || name == "LICENSE"
		return nil
	})
	if err != nil {
		return err
	}
	if !licensed {
		files = append(files, file{"LICENSE", filepath.Join(t.top, "LICENSE")})
	}
	return zip.Create(w, module.Version{Path: m.path(), Version: t.version}, files)
}

// A file is a file in a zip, and its source.
type file struct{ name, from string }

func (f file) Path() string                 { return f.name }
func (f file) Lstat() (os.FileInfo, error)  { return os.Lstat(f.from) }
func (f file) Open() (io.ReadCloser, error) { return os.Open(f.from) }
