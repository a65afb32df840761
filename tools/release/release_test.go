package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/mod/modfile"
	"golang.org/x/tools/txtar"
)

// house is a tree with a root module, a nested one and a command.
const house = `
-- go.mod --
module example.com/house

go 1.26
-- go.work --
go 1.26

use (
	.
	./garden
)

replace example.com/house v0.1.0 => .
-- LICENSE --
Anybody may.
-- README.md --
	go get example.com/house

~~~go
if err := door.Open(); err != nil {
	log.Fatal(err)
}
fmt.Println(garden.Path())
~~~
-- door/door.go --
package door

func Open() error { return nil }
-- cmd/house/main.go --
package main

import (
	"flag"

	"example.com/house/door"
)

func main() {
	flag.Parse()
	_ = door.Open()
}
-- garden/go.mod --
module example.com/house/garden

go 1.26

require example.com/house v0.1.0
-- garden/garden.go --
package garden

import "example.com/house/door"

func Path() error { return door.Open() }
`

// build writes a tree, with old replaced by new in it.
func build(t *testing.T, dir string, edits ...string) {
	t.Helper()
	text := strings.ReplaceAll(strings.NewReplacer(edits...).Replace(house), "~~~", "```")
	for _, f := range txtar.Parse([]byte(text)).Files {
		name := filepath.Join(dir, f.Name)
		require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o755))
		require.NoError(t, os.WriteFile(name, f.Data, 0o644))
	}
}

func TestRehearse(t *testing.T) {
	for name, c := range map[string]struct {
		edits []string
		want  string // in the error, "" for none
	}{
		"good":            {nil, ""},
		"not tidy":        {[]string{`import "example.com/house/door"`, "", "error { return door.Open() }", "int { return 1 }"}, "garden/go.mod is not tidy"},
		"does not build":  {[]string{"func Path() error", "func Path() int"}, "cannot use door.Open()"},
		"no help":         {[]string{"flag.Parse()", "flag.Parse(); panic(1)", "\"flag\"", "flag \"example.com/house/noflag\"", "-- LICENSE --", "-- noflag/f.go --\npackage flag\n\nfunc Parse() {}\n-- LICENSE --"}, "house -h: exit status 2"},
		"broken snippet":  {[]string{"err := door.Open()", "err := door.Close()"}, "undefined: door.Close"},
		"unknown snippet": {[]string{"err := door.Open()", "err := gate.Open()"}, "README.md:3: no package is named gate"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			build(t, dir, c.edits...)
			var out strings.Builder
			err := rehearse(&out, dir, "")
			if c.want != "" {
				assert.ErrorContains(t, err, c.want)
				return
			}
			require.NoError(t, err)
			for _, line := range []string{
				"house/garden: go get, go build", "house/cmd/house: go install, go run", "README.md: 1 snippets compile", "no earlier release",
			} {
				assert.Contains(t, out.String(), line)
			}
		})
	}
}

// The last release's nested module must build with this root, unless the
// version allows a break.
func TestPair(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		if os.Getenv("CHATTOKEN_REQUIRE") == "1" {
			t.Fatal("git is not installed")
		}
		t.Skip("git is not installed")
	}
	dir := t.TempDir()
	git := func(args ...string) {
		cmd := exec.Command("git", append([]string{"-c", "user.name=n", "-c", "user.email=e@example.com"}, args...)...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, string(out))
	}
	build(t, dir)
	git("init", "-q")
	git("add", ".")
	git("commit", "-q", "-m", "first")
	git("tag", "v0.1.0")
	git("tag", "garden/v0.1.0")

	breaks := []string{"Open()", "Unlock()"}
	for _, c := range []struct {
		version string
		edits   []string
		out     string
		err     string
	}{
		{"v0.1.1", nil, "garden@v0.1.0: builds with this root", ""},
		{"v0.1.1", breaks, "", "undefined: door.Open"},
		{"v0.2.0", breaks, "garden@v0.1.0: does NOT build with this root", ""},
	} {
		build(t, dir, append(c.edits, "v0.1.0", c.version)...)
		var out strings.Builder
		err := rehearse(&out, dir, "")
		if c.err != "" {
			assert.ErrorContains(t, err, c.err)
			continue
		}
		require.NoError(t, err)
		assert.Contains(t, out.String(), c.out)
	}
}

func TestCheck(t *testing.T) {
	const work = "go 1.26\n\nuse (\n\t.\n\t./a\n\t./b\n)\n\nreplace m v1.0.0 => .\n\nreplace m/a v1.0.0 => ./a\n"
	needs := func(dir string, paths ...string) (text string) {
		text = "module " + strings.TrimSuffix("m/"+dir, "/.") + "\n\ngo 1.26\n"
		for _, p := range paths {
			text += "\nrequire " + p + " v1.0.0\n"
		}
		return text
	}
	good := map[string]string{".": needs("."), "a": needs("a", "m"), "b": needs("b", "m/a", "m")}
	for name, c := range map[string]struct {
		dir, text string // in place of the good one
		work      string
		want      string
	}{
		"good":              {want: ""},
		"replace":           {dir: "a", text: needs("a", "m") + "\nreplace x => ../x\n", want: "refuses a module with replace"},
		"exclude":           {dir: ".", text: needs(".") + "\nexclude x v1.2.3\n", want: "refuses a module with replace"},
		"another directory": {dir: "a", text: needs("c", "m"), want: "a/go.mod: the path is m/c, not m/a"},
		"two versions":      {dir: "b", text: "module m/b\n\nrequire m v1.0.1\n", want: "where others are at"},
		"a pseudo-version":  {dir: "a", text: "module m/a\n\nrequire m v0.0.0-20260101000000-000000000000\n", want: "which is no release"},
		"not used":          {work: strings.Replace(work, "\t./b\n", "", 1), want: "go.work: does not use b"},
		"not replaced":      {work: strings.Replace(work, "replace m v1.0.0 => .\n", "", 1), want: "go.work: no replace for m@v1.0.0"},
		"a circle":          {dir: "a", text: needs("a", "m/b"), work: work + "\nreplace m/b v1.0.0 => ./b\n", want: "require each other"},
		"not in the tree":   {dir: "b", text: needs("b", "m/c"), work: work + "\nreplace m/c v1.0.0 => ./c\n", want: "one that is not in the tree"},
	} {
		t.Run(name, func(t *testing.T) {
			var tr tree
			for _, dir := range []string{"b", "a", "."} {
				text := good[dir]
				if dir == c.dir {
					text = c.text
				}
				file, err := modfile.Parse("go.mod", []byte(text), nil)
				require.NoError(t, err)
				tr.modules = append(tr.modules, &mod{dir: dir, file: file})
			}
			text := work
			if c.work != "" {
				text = c.work
			}
			file, err := modfile.ParseWork("go.work", []byte(text), nil)
			require.NoError(t, err)
			err = tr.check(file)
			if c.want != "" {
				require.ErrorContains(t, err, c.want)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, "v1.0.0", tr.version)
			var order []string
			for _, m := range tr.modules {
				order = append(order, m.dir)
			}
			assert.Equal(t, []string{".", "a", "b"}, order)
		})
	}
}

func TestBefore(t *testing.T) {
	tags := []string{"v0.1.0", "v0.9.0", "v0.10.0", "v0.11.0", "a/v0.1.0", "a/b/v0.2.0", "latest", "a/latest"}
	for _, c := range []struct{ dir, want string }{
		{".", "v0.10.0"}, {"a", "a/v0.1.0"}, {"a/b", "a/b/v0.2.0"}, {"b", ""},
	} {
		assert.Equal(t, c.want, (&mod{dir: c.dir}).before(tags, "v0.11.0"), c.dir)
	}
}

func TestMayBreak(t *testing.T) {
	for _, c := range []struct {
		from, to string
		want     bool
	}{
		{"v0.1.0", "v0.1.1", false},
		{"v0.1.1", "v0.2.0", true},
		{"v0.2.0", "v1.0.0", true},
		{"v1.0.0", "v1.0.1", false},
		{"v1.0.0", "v1.1.0", false},
	} {
		assert.Equal(t, c.want, mayBreak(c.from, c.to), "%s to %s", c.from, c.to)
	}
}

func TestResolve(t *testing.T) {
	own := []string{"m/token", "m/internal/door", "m/a/twice", "m/b/twice"}
	standard := []string{"go/token", "net/http", "internal/abi", "vendor/x/net", "crypto/rand", "math/rand"}
	for name, want := range map[string]string{
		"token": "m/token", "http": "net/http", "websocket": "github.com/coder/websocket",
		"door": "no package", "abi": "no package", "net": "no package", "rand": "more than one", "twice": "more than one",
	} {
		got, err := resolve(name, own, standard)
		if err != nil {
			got = fmt.Sprint(err)
		}
		assert.Contains(t, got, want)
	}
}

func TestTidy(t *testing.T) {
	tr := &tree{root: "m"}
	r := &rehearsal{tree: tr}
	assert.Equal(t, "mm v1 h1:b\n", r.withoutOurs("m v1 h1:a\nm/a v1/go.mod h1:a\nmm v1 h1:b\n"))
	assert.Empty(t, difference("a\nb\n", "a\nb\n"))
	assert.Equal(t, "-b\n+c\n", difference("a\nb\n", "a\nc\n"))
}
