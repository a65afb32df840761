package main

import (
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestFaults checks that the list still fits the code, so that whoever changes
// the one knows to change the other.
func TestFaults(t *testing.T) {
	require.NotEmpty(t, faults)
	names := map[string]bool{}
	for _, f := range faults {
		source, err := os.ReadFile(filepath.Join("../..", f.file))
		require.NoError(t, err)
		changed, err := f.apply(string(source))
		if assert.NoError(t, err, "the fault %q in faults.go has to follow the code", f.name) {
			assert.NotEqual(t, string(source), changed, f.name)
			_, err = parser.ParseFile(token.NewFileSet(), f.file, changed, 0)
			assert.NoError(t, err, f.name)
		}
		assert.NotEmpty(t, f.tests, f.name)
		assert.False(t, names[f.name], "%q is in the list twice", f.name)
		names[f.name] = true
	}
}

func TestTry(t *testing.T) {
	dir := t.TempDir()
	files := map[string]string{
		"go.mod": "module m\n\ngo 1.26\n",
		"m.go":   "package m\n\nfunc less(a, b int) bool { return a < b }\n\nfunc Seen() int { return 1 }\n\nfunc unused() int { return 2 }\n",
		"fuzz/fuzz_test.go": "package fuzz\n\nimport (\n\t\"m\"\n\t\"testing\"\n)\n\nfunc TestSeed(t *testing.T) {\n" +
			"\tif m.Seen() != 1 {\n\t\tt.Fatal()\n\t}\n}\n",
		"m_test.go": "package m\n\nimport \"testing\"\n\nfunc TestLess(t *testing.T) {\n" +
			"\tif less(1, 1) {\n\t\tt.Fatal()\n\t}\n}\n",
	}
	for name, text := range files {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	tests := []struct {
		name     string
		old, new string
		want     string // in the error, "" for caught
	}{
		{"caught", "a < b", "a <= b", ""},
		{"missed", "return 2", "return 3", "missed"},
		{"noticed by a corpus", "return 1", "return 3", "only the corpora"},
		{"no such snippet", "a > b", "a >= b", "0 of the snippet"},
		{"three such snippets", "func ", "type ", "3 of the snippet"},
		{"no such variable", "a < b", "a < c", "does not compile"},
		{"no program", "a < b", "a <", "does not compile"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			err := try(dir, fault{name: test.name, file: "m.go", tests: ".", edits: one(test.old, test.new)})
			if test.want == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, test.want)
			}
			got, err := os.ReadFile(filepath.Join(dir, "m.go"))
			require.NoError(t, err)
			assert.Equal(t, files["m.go"], string(got), "the fault was left in")
		})
	}
}

func TestBaseline(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module m\n\ngo 1.26\n"), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "m_test.go"),
		[]byte("package m\n\nimport \"testing\"\n\nfunc TestFails(t *testing.T) { t.Fatal() }\n"), 0o644))
	require.ErrorContains(t, baseline(dir, []fault{{tests: "."}}), "without a fault")
}

func TestCopyModule(t *testing.T) {
	src, dst := t.TempDir(), filepath.Join(t.TempDir(), "copy")
	for _, name := range []string{"go.mod", "a/a.go", "a/testdata/x.json", ".git/config", "nested/go.mod", "nested/n.go"} {
		require.NoError(t, os.MkdirAll(filepath.Join(src, filepath.Dir(name)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(src, name), []byte(name), 0o644))
	}
	require.NoError(t, copyModule(dst, src))
	for name, want := range map[string]bool{"go.mod": true, "a/a.go": true, "a/testdata/x.json": true, ".git": false, "nested": false} {
		_, err := os.Stat(filepath.Join(dst, name))
		assert.Equal(t, want, err == nil, name)
	}
}
