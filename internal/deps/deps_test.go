// Package deps_test checks what the module depends on: which packages each
// public one pulls in, which of ours imports which, and what none may import.
package deps_test

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	module = "github.com/seed17cb2b26/chattoken"
	root   = "../.." // of the module, from here
	cbor   = "github.com/fxamacker/cbor/v2"
)

// A pkg is what go list says about a package. Names of this module's packages
// are without the module path.
type pkg struct {
	ImportPath string
	Standard   bool
	Imports    []string // by files that are not tests
	Deps       []string // Imports, and their Deps
}

// list runs go list.
func list(t *testing.T, patterns ...string) []pkg {
	t.Helper()
	out := run(t, append([]string{"list", "-json=ImportPath,Standard,Imports,Deps"}, patterns...)...)
	var pkgs []pkg
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		err := d.Decode(&p)
		if err == io.EOF {
			return pkgs
		}
		require.NoError(t, err)
		p.ImportPath = short(p.ImportPath)
		for _, names := range [][]string{p.Imports, p.Deps} {
			for i := range names {
				names[i] = short(names[i])
			}
		}
		pkgs = append(pkgs, p)
	}
}

// run runs a go command in the root of the module and returns its output.
func run(t *testing.T, args ...string) []byte {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.Command("go", args...)
	cmd.Dir = root
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, "go %s: %s", strings.Join(args, " "), stderr.String())
	return out
}

func short(importPath string) string {
	return strings.TrimPrefix(importPath, module+"/")
}

// TestDependencies compares the dependencies of the public packages with
// testdata/allowed.txt.
func TestDependencies(t *testing.T) {
	standard := make(map[string]bool)
	for _, p := range list(t, "-deps", "./...") {
		standard[p.ImportPath] = p.Standard
	}
	for name, allowed := range readAllowed(t) {
		t.Run(name, func(t *testing.T) {
			pkgs := list(t, "./"+name)
			require.Len(t, pkgs, 1)
			for _, dep := range pkgs[0].Deps {
				if !standard[dep] {
					assert.Contains(t, allowed, dep, "not in allowed.txt")
				}
			}
		})
	}
}

// TestCodec checks that only the keyring's file is read and written by a codec
// that uses reflection. Tokens are read and written by hand.
func TestCodec(t *testing.T) {
	var patterns []string
	for name := range readAllowed(t) {
		patterns = append(patterns, "./"+name)
	}
	for _, p := range list(t, append([]string{"-deps"}, patterns...)...) {
		if p.ImportPath != "keyring" {
			assert.NotContains(t, p.Imports, cbor, p.ImportPath)
		}
	}
}

// readAllowed reads testdata/allowed.txt: a package on a line, and in indented
// lines below it what it may depend on. It leaves out packages that have no
// directory.
func readAllowed(t *testing.T) map[string][]string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "allowed.txt"))
	require.NoError(t, err)
	allowed := make(map[string][]string)
	var name string
	for line := range strings.Lines(string(data)) {
		word := strings.TrimSpace(line)
		switch {
		case word == "" || word[0] == '#':
		case line[0] == '\t':
			require.NotEmpty(t, name, "%q belongs to no package", word)
			allowed[name] = append(allowed[name], word)
		default:
			name = word
			require.NotContains(t, allowed, name, "listed twice")
			allowed[name] = nil
		}
	}
	maps.DeleteFunc(allowed, func(name string, _ []string) bool {
		_, err := os.Stat(filepath.Join(root, name))
		return os.IsNotExist(err)
	})
	require.NotEmpty(t, allowed)
	return allowed
}

// direction says which trees of the module a tree's packages may import, except
// in tests. Nothing may import cmd or the examples.
var direction = map[string][]string{
	"claims":   {"internal"},
	"keyring":  {"keyring", "internal"},
	"token":    {"claims", "keyring", "internal"},
	"replay":   {"keyring", "token", "claims", "internal"},
	"gateway":  {"claims", "keyring", "token", "internal"},
	"vectors":  {},
	"internal": {"claims", "internal"}, // the payload is made of claims
	"cmd":      {"claims", "keyring", "token", "replay", "gateway", "internal"},
	"fuzz":     {"claims", "keyring", "token", "replay", "gateway", "internal"},
	"bench":    {"claims", "keyring", "token", "replay", "gateway", "internal"},
}

// TestDirection checks that imports within the module point one way.
func TestDirection(t *testing.T) {
	ours := list(t, "./...")
	require.NotEmpty(t, ours)
	isOurs := func(name string) bool {
		return slices.ContainsFunc(ours, func(p pkg) bool { return p.ImportPath == name })
	}
	for _, p := range ours {
		if p.ImportPath == "token/tokentest" {
			continue // for tests, so it may import everything
		}
		may, ok := direction[tree(p.ImportPath)]
		assert.True(t, ok, "%s has no place in the direction of imports", p.ImportPath)
		for _, imported := range p.Imports {
			if isOurs(imported) {
				assert.Contains(t, may, tree(imported), "%s imports %s", p.ImportPath, imported)
			}
		}
	}
}

// tree returns the first element of a package's name.
func tree(name string) string {
	first, _, _ := strings.Cut(name, "/")
	return first
}

// TestRequirements checks that the module requires only three others.
func TestRequirements(t *testing.T) {
	var mod struct {
		Require []struct {
			Path     string
			Indirect bool
		}
		Exclude, Replace, Tool []any
	}
	require.NoError(t, json.Unmarshal(run(t, "mod", "edit", "-json"), &mod))
	var direct []string
	for _, r := range mod.Require {
		if !r.Indirect {
			direct = append(direct, r.Path)
		}
	}
	assert.ElementsMatch(t, []string{cbor, "github.com/stretchr/testify", "golang.org/x/crypto"}, direct)
	assert.Empty(t, mod.Exclude)
	assert.Empty(t, mod.Replace)
	assert.Empty(t, mod.Tool)
}
