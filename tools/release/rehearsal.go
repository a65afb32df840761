package main

import (
	archivezip "archive/zip"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/module"
	"golang.org/x/mod/zip"
)

// A rehearsal is a tree, and a proxy that strangers use in its place.
type rehearsal struct {
	*tree
	out       io.Writer
	gorelease string
	tmp       string
	env       []string // of a stranger's commands
	upstream  string   // our proxy, the module cache and the real proxies
}

// rehearse rehearses the release of the tree at top, and prints a line for each
// success.
func rehearse(out io.Writer, top, gorelease string) error {
	t, err := readTree(top)
	if err != nil {
		return err
	}
	tmp, err := os.MkdirTemp("", "release")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	r := &rehearsal{tree: t, out: out, gorelease: gorelease, tmp: tmp}
	if err := r.environment(); err != nil {
		return err
	}
	return r.run()
}

// environment makes a stranger's environment: an empty module cache, our proxy
// for our modules, and the real module cache for others. So our modules come
// only from our proxy, and never get into the real cache.
//
// It doesn't use the checksum database, which is on the network. The modules'
// go.sum files have the sums of others' modules, and go mod tidy, which runs
// first, compares them.
func (r *rehearsal) environment() error {
	var real struct{ GOMODCACHE, GOPROXY string }
	data, err := command(".", nil, "go", "env", "-json", "GOMODCACHE", "GOPROXY")
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, &real); err != nil {
		return err
	}
	proxies := fileURL(r.proxy()) + "," + fileURL(filepath.Join(real.GOMODCACHE, "cache", "download"))
	r.upstream = proxies + "," + real.GOPROXY
	r.env = []string{
		"GOMODCACHE=" + filepath.Join(r.tmp, "modcache"),
		"GOBIN=" + filepath.Join(r.tmp, "bin"),
		"GOPROXY=" + proxies,
		"GOVCS=*:off",
		"GOSUMDB=off", "GONOPROXY=", "GOPRIVATE=",
		"GOWORK=off",
		// With -trimpath, later rehearsals can use the build cache.
		"GOFLAGS=-mod=mod -trimpath -modcacherw -buildvcs=false",
	}
	return nil
}

func (r *rehearsal) proxy() string { return filepath.Join(r.tmp, "proxy") }

func fileURL(name string) string { return "file://" + filepath.ToSlash(name) }

func (r *rehearsal) run() error {
	before, err := r.publishBefore()
	if err != nil {
		return err
	}
	for _, m := range r.modules {
		if err := r.release(m, before[m]); err != nil {
			return err
		}
	}
	for _, m := range r.modules {
		if err := r.use(m); err != nil {
			return err
		}
	}
	if err := r.readme(); err != nil {
		return err
	}
	return r.pair(before)
}

// say prints a success.
func (r *rehearsal) say(format string, args ...any) {
	fmt.Fprintf(r.out, "release: "+format+"\n", args...)
}

// release checks a module and publishes it. before is the version of its last
// release, or "".
func (r *rehearsal) release(m *mod, before string) error {
	v := module.Version{Path: m.path(), Version: r.version}
	var archive bytes.Buffer
	if err := r.zip(&archive, m); err != nil {
		return err
	}
	packed := filepath.Join(r.tmp, "module.zip")
	if err := os.WriteFile(packed, archive.Bytes(), 0o644); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(r.tmp, "copy")
	if err != nil {
		return err
	}
	if err := zip.Unzip(dir, v, packed); err != nil {
		return err
	}
	if err := r.tidy(m, dir); err != nil {
		return err
	}
	if err := r.judge(v, dir, before); err != nil {
		return err
	}
	return publish(r.proxy(), v, archive.Bytes())
}

// judge asks gorelease whether the version fits, if others can import packages
// of the module.
func (r *rehearsal) judge(v module.Version, dir, before string) error {
	names, err := r.command(dir, "go", "list", `-f={{if and .GoFiles (ne .Name "main")}}{{.ImportPath}}{{end}}`, "./...")
	if err != nil {
		return err
	}
	public := slices.ContainsFunc(strings.Fields(string(names)), func(p string) bool {
		return !strings.Contains(p+"/", "/internal/")
	})
	if r.gorelease == "" || !public {
		r.say("%s: tidy", v.Path)
		return nil
	}
	verdict, err := command(dir, r.more(), r.gorelease, "-base="+cmp.Or(before, "none"), "-version="+v.Version)
	if err != nil {
		return err
	}
	r.say("%s: tidy; gorelease: %s", v.Path, strings.TrimSpace(strings.TrimPrefix(string(verdict), "# summary\n")))
	return nil
}

// tidy fails if go mod tidy would change go.mod or go.sum. It ignores the sums
// of our modules. Nobody knows them before the release. Nobody needs them
// either, because the workspace has the modules, and a dependency's go.sum
// doesn't count.
func (r *rehearsal) tidy(m *mod, dir string) error {
	if _, err := command(dir, r.more(), "go", "mod", "tidy"); err != nil {
		return err
	}
	for _, name := range []string{"go.mod", "go.sum"} {
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		want, err := os.ReadFile(filepath.Join(r.top, m.dir, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if d := difference(string(want), r.withoutOurs(string(got))); d != "" {
			return fmt.Errorf("%s/%s is not tidy:\n%s", m.dir, name, d)
		}
	}
	_, err := r.command(dir, "go", "mod", "verify")
	return err
}

// withoutOurs returns the lines of a go.sum without our modules. It leaves a
// go.mod as it is, because no line of one starts with a path.
func (r *rehearsal) withoutOurs(sums string) string {
	var kept strings.Builder
	for line := range strings.Lines(sums) {
		if p, _, _ := strings.Cut(line, " "); !r.ours(p) {
			kept.WriteString(line)
		}
	}
	return kept.String()
}

// difference returns the lines that tidying removes and adds, or "".
func difference(before, after string) string {
	old, tidied := strings.Split(before, "\n"), strings.Split(after, "\n")
	var d strings.Builder
	for _, line := range old {
		if !slices.Contains(tidied, line) {
			d.WriteString("-" + line + "\n")
		}
	}
	for _, line := range tidied {
		if !slices.Contains(old, line) {
			d.WriteString("+" + line + "\n")
		}
	}
	return d.String()
}

// publish puts a module into the proxy. Its files are in dir.
func publish(dir string, v module.Version, archive []byte) error {
	escaped, err := module.EscapePath(v.Path)
	if err != nil {
		return err
	}
	versions := filepath.Join(dir, filepath.FromSlash(escaped), "@v")
	if err := os.MkdirAll(versions, 0o755); err != nil {
		return err
	}
	list, err := os.OpenFile(filepath.Join(versions, "list"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(list, v.Version)
	if err := errors.Join(err, list.Close()); err != nil {
		return err
	}
	goMod, err := goModOf(v, archive)
	if err != nil {
		return err
	}
	info := fmt.Sprintf(`{"Version":%q,"Time":%q}`, v.Version, time.Now().UTC().Format(time.RFC3339))
	return errors.Join(
		os.WriteFile(filepath.Join(versions, v.Version+".info"), []byte(info), 0o644),
		os.WriteFile(filepath.Join(versions, v.Version+".mod"), goMod, 0o644),
		os.WriteFile(filepath.Join(versions, v.Version+".zip"), archive, 0o644),
	)
}

// goModOf returns the go.mod in a module's zip.
func goModOf(v module.Version, archive []byte) ([]byte, error) {
	files, err := archivezip.NewReader(bytes.NewReader(archive), int64(len(archive)))
	if err != nil {
		return nil, err
	}
	return fs.ReadFile(files, v.Path+"@"+v.Version+"/go.mod")
}

// more is the environment of commands that may need modules of others that
// aren't in the module cache.
func (r *rehearsal) more() []string { return append(slices.Clone(r.env), "GOPROXY="+r.upstream) }

// command runs a program as a stranger does.
func (r *rehearsal) command(dir, name string, args ...string) ([]byte, error) {
	return command(dir, r.env, name, args...)
}

// command runs a program in dir, with more in its environment, for at most ten
// minutes. It returns the output.
func command(dir string, env []string, name string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	var out, complaints bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = &out, &complaints
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s %s: %w\n%s%s", name, strings.Join(args, " "), err, out.Bytes(), complaints.Bytes())
	}
	return out.Bytes(), nil
}
