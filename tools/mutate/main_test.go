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

// TestFaults checks that the list fits the code, so that a change of one
// reminds of the other.
func TestFaults(t *testing.T) {
	require.NotEmpty(t, suites)
	names := map[string]bool{}
	for _, s := range suites {
		require.NotEmpty(t, s.tests)
		require.NotEmpty(t, s.faults)
		for _, f := range s.faults {
			source, err := os.ReadFile(filepath.Join("../..", s.dir, f.file))
			require.NoError(t, err)
			changed, err := f.apply(string(source))
			if assert.NoError(t, err, "the fault %q in faults.go has to follow the code", f.name) {
				assert.NotEqual(t, string(source), changed, f.name)
				_, err = parser.ParseFile(token.NewFileSet(), f.file, changed, 0)
				assert.NoError(t, err, f.name)
			}
			assert.False(t, names[f.name], "%q is in the list twice", f.name)
			names[f.name] = true
		}
	}
}

func TestTry(t *testing.T) {
	t.Setenv("GOWORK", "off")
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":    "module m\n\ngo 1.26\n",
		"m.go":      "package m\n\nfunc less(a, b int) bool { return a < b }\n\nfunc unused() int { return 2 }\n",
		"m_test.go": "package m\n\nimport \"testing\"\n\nfunc TestLess(t *testing.T) {\n\tif less(1, 1) {\n\t\tt.Fatal()\n\t}\n}\n",
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	s := suite{dir: dir, tests: "."}
	require.NoError(t, s.baseline())
	tests := []struct {
		name     string
		old, new string
		want     string // in the error, "" for caught
	}{
		{"caught", "a < b", "a <= b", ""},
		{"missed", "return 2", "return 3", "missed"},
		{"no such snippet", "a > b", "a >= b", "0 of the snippet"},
		{"two such snippets", "func ", "type ", "2 of the snippet"},
		{"no such variable", "a < b", "a < c", "does not compile"},
		{"no program", "a < b", "a <", "does not compile"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			err := s.try(fault{test.name, "m.go", one(test.old, test.new)}, filepath.Join(t.TempDir(), "overlay"))
			if test.want == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, test.want)
			}
		})
	}
}

func TestBaseline(t *testing.T) {
	t.Setenv("GOWORK", "off")
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module m\n\ngo 1.26\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "m_test.go"),
		[]byte("package m\n\nimport \"testing\"\n\nfunc TestFails(t *testing.T) { t.Fatal() }\n"), 0o600))
	require.ErrorContains(t, suite{dir: dir, tests: "."}.baseline(), "without a fault")
}
