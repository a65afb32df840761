package main

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/template"
	"time"
)

//go:embed results.md.tmpl
var resultsText string

// writeResults writes RESULTS.md.
func writeResults(dir string, m *measurements, goals []goal) error {
	modules, err := requirements()
	if err != nil {
		return fmt.Errorf("reading go.mod: %w", err)
	}
	var judged [][]string
	for _, g := range goals {
		v := g.value(m)
		judged = append(judged, []string{g.of.benchmark, g.of.unit, g.to.benchmark, withInterval(v), g.String(), string(g.judge(v, g.bound))})
	}
	ratio := func(of, to string) string { return withInterval(m.time(of, to)) }
	value := func(benchmark, unit string) string { return withInterval(m.summary(series{benchmark, unit})) }
	t, err := template.New("results.md.tmpl").Funcs(template.FuncMap{
		"has":    m.has,
		"label":  label,
		"join":   func(cells []string) string { return strings.Join(cells, " | ") },
		"list":   func(words ...string) []string { return words },
		"names":  m.keys,
		"time":   ratio,
		"value":  value,
		"allocs": func(benchmark string) string { return value(benchmark, "allocs/op") },
		"median": func(benchmark, unit string) string { return number(m.summary(series{benchmark, unit}).Center) },
		"sizes": func(of, to string) string { // three cells of a row
			cells := make([]string, len(sizes))
			for i, size := range sizes {
				cells[i] = ratio(m.sized(of, size), m.sized(to, size))
			}
			return strings.Join(cells, " | ")
		},
	}).Parse(resultsText)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := t.Execute(&b, map[string]any{
		"Date":       time.Now().UTC().Format(time.DateOnly),
		"Go":         fmt.Sprintf("%s %s/%s", runtime.Version(), m.machine["goos"], m.machine["goarch"]),
		"Processors": fmt.Sprintf("%s, %d of them", m.machine["cpu"], runtime.NumCPU()),
		"Rounds":     len(m.values[series{"Open/size=small", "sec/op"}]),
		"Modules":    modules,
		"Goals":      judged,
		"All":        slices.Sorted(slices.Values(m.names)),
	}); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "RESULTS.md"), b.Bytes(), 0o644)
}

// sizes are the claims that most benchmarks are run with.
var sizes = []string{"small", "medium", "large"}

// sized names a benchmark of a size, or one without sizes.
func (m *measurements) sized(benchmark, size string) string {
	if of := benchmark + "/size=" + size; m.has(of) {
		return of
	}
	return benchmark
}

// keys returns the values of the key that follows prefix in the names of
// benchmarks, such as "Verify/lib=", in the order of their first run.
func (m *measurements) keys(prefix string) []string {
	var keys []string
	for _, name := range m.names {
		rest, ok := strings.CutPrefix(name, prefix)
		key, _, _ := strings.Cut(rest, "/")
		if ok && !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	return keys
}

// requirements are what this module requires directly, with versions. This
// repository's own version is that of the working tree.
func requirements() ([]string, error) {
	out, err := exec.Command("go", "mod", "edit", "-json").Output()
	if err != nil {
		return nil, err
	}
	var mod struct {
		Require []struct {
			Path, Version string
			Indirect      bool
		}
	}
	if err := json.Unmarshal(out, &mod); err != nil {
		return nil, err
	}
	var list []string
	for _, r := range mod.Require {
		if !r.Indirect && !strings.HasPrefix(r.Path, "github.com/seed17cb2b26/chattoken") {
			list = append(list, r.Path+" "+r.Version)
		}
	}
	return list, nil
}

// labels explain the names of peers. A peer without one goes by its name.
var labels = map[string]string{
	"chattoken-copied": "chattoken, copied out",
	"tink-aes-gcm":     "Tink AES-GCM + CBOR",
	"tink-xchacha20":   "Tink XChaCha20-Poly1305 + CBOR",
	"fernet":           "fernet-go + CBOR",
	"securecookie":     "gorilla/securecookie + CBOR",
	"macaroon":         "macaroon.v2 + CBOR (signed)",
	"kataras-jwt":      "kataras/jwt HS256 + GCM",
	"jose2go-jwe":      "jose2go JWE dir A256GCM",
	"go-jose-jwe":      "go-jose JWE dir A256GCM",
	"jwx-jwe":          "lestrrat-go/jwx JWE dir A256GCM",
	"golang-jwt-hs256": "golang-jwt HS256 (signed)",
	"golang-jwt-eddsa": "golang-jwt EdDSA (signed)",
	"o1egl-paseto-v2":  "o1egl/paseto v2.local",
	"go-paseto-v4":     "go-paseto v4.local",
	"go-cose-eddsa":    "go-cose Sign1 EdDSA + CBOR (signed)",
	"flat-table":       "flat-table (no lock, never forgets)",
	"mutex-map":        "mutex-map (never forgets)",
	"sync-map":         "sync-map (never forgets)",
}

func label(name string) string {
	if l, ok := labels[name]; ok {
		return l
	}
	return name
}
