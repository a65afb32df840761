package deps_test

import (
	"cmp"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// forbidden says what the packages of a tree must not import themselves. The
// empty tree is all of them.
var forbidden = map[string][]string{
	"":                   {"unsafe", "reflect", "encoding/gob"},
	"token":              {"encoding/json"},
	"internal/base64url": {"encoding/json"},
}

// TestSource reads every source file except tests, for every platform.
func TestSource(t *testing.T) {
	files := sources(t)
	require.NotEmpty(t, files)
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, name), nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		dir := filepath.ToSlash(filepath.Dir(name))
		for _, spec := range file.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			require.NoError(t, err)
			for tree, banned := range forbidden {
				if within(dir, tree) {
					assert.NotContains(t, banned, imported, name)
				}
			}
		}
		assert.False(t, slices.ContainsFunc(file.Decls, isInit), "%s has a func init", name)
	}
}

// within reports whether dir is tree or below it.
func within(dir, tree string) bool {
	return tree == "" || dir == tree || strings.HasPrefix(dir, tree+"/")
}

func isInit(d ast.Decl) bool {
	f, ok := d.(*ast.FuncDecl)
	return ok && f.Recv == nil && f.Name.Name == "init"
}

// sources returns the names of this module's Go files, except tests, relative
// to the root.
func sources(t *testing.T) []string {
	t.Helper()
	var files []string
	require.NoError(t, fs.WalkDir(os.DirFS(root), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && name != "." && !isOurs(name) {
			return fs.SkipDir
		}
		if strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go") {
			files = append(files, name)
		}
		return nil
	}))
	return files
}

// isOurs reports whether the go command takes dir as part of this module.
func isOurs(dir string) bool {
	base := filepath.Base(dir)
	if base == "testdata" || base[0] == '.' || base[0] == '_' {
		return false
	}
	_, err := os.Stat(filepath.Join(root, dir, "go.mod"))
	return os.IsNotExist(err)
}

// TestNestedModules checks that nested modules, and their tests, import only
// public packages of the root: any release of a nested module may be built with
// any release of the root.
func TestNestedModules(t *testing.T) {
	files := 0
	require.NoError(t, filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && strings.HasPrefix(d.Name(), ".") && d.Name() != ".." && name != root {
			return cmp.Or(err, fs.SkipDir)
		}
		if !strings.HasSuffix(name, ".go") || !isNested(filepath.Dir(name)) {
			return nil
		}
		files++
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		require.NoError(t, err)
		for _, spec := range file.Imports {
			assert.False(t, strings.HasPrefix(spec.Path.Value, `"`+module+`/internal/`), "%s imports %s", name, spec.Path.Value)
		}
		return nil
	}))
	assert.NotZero(t, files)
}

// isNested reports whether a directory belongs to another module than the root.
func isNested(dir string) bool {
	for ; dir != root; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return true
		}
	}
	return false
}
