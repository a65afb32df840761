package fuzz_test

import (
	"bytes"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the seed corpora")

// seed is an entry of a seed corpus: a file name and the target's arguments.
type seed struct {
	name string
	args []any
}

func args(a ...any) []any { return a }

// seeds has a function for each target, from the target's file. A corpus may
// have more entries: what a fuzz run found is added by hand.
var seeds = map[string]func(testing.TB) []seed{
	"FuzzOpen":         openSeeds,
	"FuzzOpenMutated":  mutatedSeeds,
	"FuzzPayload":      payloadSeeds,
	"FuzzSealOpen":     sealOpenSeeds,
	"FuzzBase64URL":    base64Seeds,
	"FuzzSealedRing":   sealedRingSeeds,
	"FuzzRingDocument": ringDocumentSeeds,
	"FuzzRequest":      requestSeeds,
	"FuzzShorthand":    shorthandSeeds,
	"FuzzCapabilities": capabilitiesSeeds,
	"FuzzGuard":        guardSeeds,
	"FuzzTwoOpeners":   twoOpenersSeeds,
}

// TestCorpora compares the corpora with the seeds. With -update it writes them.
func TestCorpora(t *testing.T) {
	for target, make := range seeds {
		dir := filepath.Join("testdata", "fuzz", target)
		for _, s := range make(t) {
			file, want := filepath.Join(dir, s.name), s.encode(t)
			if *update {
				require.NoError(t, os.MkdirAll(dir, 0o755))
				require.NoError(t, os.WriteFile(file, want, 0o644))
			}
			got, err := os.ReadFile(file)
			require.NoError(t, err, "go test ./fuzz -run TestCorpora -update writes it")
			assert.Equal(t, string(want), string(got), "%s is not what its seed is now", file)
		}
	}
}

// encode writes the file that the go command reads.
func (s seed) encode(t testing.TB) []byte {
	var b bytes.Buffer
	b.WriteString("go test fuzz v1\n")
	for _, arg := range s.args {
		switch arg := arg.(type) {
		case []byte:
			fmt.Fprintf(&b, "[]byte(%q)\n", arg)
		case string:
			fmt.Fprintf(&b, "string(%q)\n", arg)
		case int, int64, uint64, uint8, bool:
			fmt.Fprintf(&b, "%T(%v)\n", arg, arg)
		default:
			t.Fatalf("a seed of %T", arg)
		}
	}
	return b.Bytes()
}

// TestCorporaNotEmpty finds the targets in the source, so that a new target
// needs a corpus.
func TestCorporaNotEmpty(t *testing.T) {
	targets := targets(t)
	require.NotEmpty(t, targets)
	for _, target := range targets {
		entries, err := os.ReadDir(filepath.Join("testdata", "fuzz", target))
		assert.NoError(t, err)
		assert.NotEmpty(t, entries, "%s has no seed corpus", target)
		assert.Contains(t, seeds, target)
	}
	assert.Len(t, seeds, len(targets))
}

// targets returns the names of the fuzz targets of this package.
func targets(t testing.TB) []string {
	files, err := filepath.Glob("*_test.go")
	require.NoError(t, err)
	var names []string
	for _, file := range files {
		parsed, err := parser.ParseFile(gotoken.NewFileSet(), file, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		for _, decl := range parsed.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok && strings.HasPrefix(f.Name.Name, "Fuzz") {
				names = append(names, f.Name.Name)
			}
		}
	}
	return names
}
