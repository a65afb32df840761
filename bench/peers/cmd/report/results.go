package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// ours is the peer that the others are compared with.
const ours = "chattoken"

// sizes are the claims that most benchmarks are run with.
var sizes = []string{"small", "medium", "large"}

// writeResults writes RESULTS.md.
func writeResults(dir string, m *measurements, goals []goal) error {
	var b bytes.Buffer
	if err := writeHead(&b, m); err != nil {
		return err
	}
	writeGoals(&b, m, goals)
	writeLibrary(&b, m)
	writeParts(&b, m)
	writePeers(&b, m)
	writeStrangers(&b, m)
	writeGuards(&b, m)
	writeRaw(&b, m)
	return os.WriteFile(filepath.Join(dir, "RESULTS.md"), b.Bytes(), 0o644)
}

// table writes the rows of a table under its head; all columns but the first
// are aligned to the right.
func table(w io.Writer, head []string, rows [][]string) {
	fmt.Fprintf(w, "\n| %s |\n|---%s|\n", strings.Join(head, " | "), strings.Repeat("|--:", len(head)-1))
	for _, row := range rows {
		fmt.Fprintf(w, "| %s |\n", strings.Join(row, " | "))
	}
}

const headText = `# Results

Written by "make bench" and not by hand: run it to have those of your machine. "make bench QUICK=1" is shorter and measures less.

All times are ratios. Everything that is compared ran in turn, in rounds; a ratio is taken within each round, and what
stands here is the median of the rounds. Absolute times mean nothing on another machine, and little on this one. The claims are *small* (the service's own example), *medium* (3
attributes, about 300 bytes) and *large* (3 capabilities, 8 attributes, about 1,000 bytes).

![How long other libraries take to verify](verify.svg)

![Opening by bytes of attributes](bytes.svg)

## Where and with what
`

func writeHead(w io.Writer, m *measurements) error {
	modules, err := requirements()
	if err != nil {
		return err
	}
	fmt.Fprint(w, headText)
	table(w, []string{"", ""}, [][]string{
		{"date", time.Now().UTC().Format(time.DateOnly)},
		{"Go", fmt.Sprintf("%s %s/%s", runtime.Version(), m.machine["goos"], m.machine["goarch"])},
		{"processor", fmt.Sprintf("%s, %d of them", m.machine["cpu"], runtime.NumCPU())},
		{"rounds", strings.Join(m.phases, ", ")},
	})
	fmt.Fprintf(w, "\nWith %s.\n", strings.Join(modules, ", "))
	return nil
}

// requirements are what this module requires directly, with versions. This
// repository's own version is that of the working tree.
func requirements() ([]string, error) {
	out, err := exec.Command("go", "mod", "edit", "-json").Output()
	if err != nil {
		return nil, fmt.Errorf("reading go.mod: %w", err)
	}
	var mod struct {
		Require []struct {
			Path, Version string
			Indirect      bool
		}
	}
	if err := json.Unmarshal(out, &mod); err != nil {
		return nil, fmt.Errorf("reading go.mod: %w", err)
	}
	var list []string
	for _, r := range mod.Require {
		if !r.Indirect && r.Path != "github.com/seed17cb2b26/chattoken" {
			list = append(list, r.Path+" "+r.Version)
		}
	}
	return list, nil
}

func writeGoals(w io.Writer, m *measurements, goals []goal) {
	fmt.Fprint(w, "\n## Goals\n")
	var rows [][]string
	for _, g := range goals {
		v := g.value(m, m.ratio)
		verdict := "met"
		switch {
		case math.IsNaN(v):
			verdict = "not measured"
		case !g.within(v, g.bound):
			verdict = "**missed**"
		}
		what := map[string]string{nanoseconds: "time"}[g.of.unit]
		if what == "" {
			what = g.of.unit
		}
		rows = append(rows, []string{g.of.benchmark, what, g.to.benchmark, number(v), g.String(), verdict})
	}
	table(w, []string{"benchmark", "what", "relative to", "measured", "goal", ""}, rows)
	writeReasons(w, m)
}

// writeReasons says why goals are missed, as far as the measurements show it.
func writeReasons(w io.Writer, m *measurements) {
	fmt.Fprintf(w, `
The goals were set before the first line of code, on another processor. What stands between them and what was measured here:

- *Open and Seal against the bare AEAD.* Reading the clock takes %[1]s of a small Open. The text takes two loads from memory for
  each character; other ways of decoding that were tried, in Go alone, were slower or needed tables that fill the
  first-level cache. "Where the time goes" has the rest.
- *Open of a small token against encoding/base64 and the bare AEAD.* Those read no clock, look up no key and check no
  payload. On this processor encoding/base64 takes %[2]s of what the AEAD takes.
- *Other libraries.* They run with compact payloads, so that each is at its best, and on a processor with instructions for
  SHA-256 and AES. chattoken's time is that of XChaCha20-Poly1305, for which it has none, for %[3]s of it.
- *The shortest token.* A nonce of 12 bytes makes Tink's AES-GCM token %[5]s characters shorter. With so short a random nonce a key
  is used up after 2^32 tokens; with 24 bytes there is no such limit to watch.
- *The guard against a map behind a mutex.* The bare table, which is not locked and forgets nothing, takes %[4]s of the map's
  time by itself.
`,
		number(m.time("OpenPart/clock", "Open/small")),
		number(m.time("StandardOpen/small", "FloorOpen/small")-1),
		number(m.time("FloorOpen/small", "Open/small")),
		number(m.time("GuardBaseline/flat-table/fresh/8M", "GuardBaseline/mutex-map/fresh/8M")),
		number(m.median(series{"Mint/" + ours + "/small", characters})-m.median(series{"Mint/tink-aes-gcm/small", characters})))
}

// writeLibrary compares the benchmarks of the library with the floor.
func writeLibrary(w io.Writer, m *measurements) {
	for _, t := range []struct {
		title, floor string
		benchmarks   []string
	}{
		{"Opening, relative to the bare AEAD", "FloorOpen",
			[]string{"FloorOpen", "StandardOpen", "Open", "OpenFresh", "OpenSpend", "OpenParallel", "OpenSpendParallel"}},
		{"Sealing, relative to the bare AEAD and its nonce", "FloorSeal",
			[]string{"FloorSeal", "StandardSeal", "Seal", "Create", "SealParallel"}},
	} {
		fmt.Fprintf(w, "\n## %s\n", t.title)
		var rows [][]string
		for _, name := range t.benchmarks {
			if m.has(name + "/" + sizes[0]) {
				rows = append(rows, libraryRow(m, name, t.floor))
			}
		}
		table(w, []string{"", "small", "medium", "large", "allocations"}, rows)
	}
	if reasons := m.children("Refuse/"); len(reasons) > 0 {
		fmt.Fprint(w, "\n## Refusing, relative to opening a small token\n")
		var rows [][]string
		for _, reason := range reasons {
			name := "Refuse/" + reason
			rows = append(rows, []string{reason, number(m.time(name, "Open/small")), number(m.median(series{name, allocations}))})
		}
		table(w, []string{"", "time", "allocations"}, rows)
	}
}

func libraryRow(m *measurements, name, floor string) []string {
	row := []string{name}
	var allocs float64
	for _, size := range sizes {
		row = append(row, number(m.time(name+"/"+size, floor+"/"+size)))
		allocs = max(allocs, m.median(series{name + "/" + size, allocations}))
	}
	return append(row, number(allocs))
}

// writeParts divides Open and Seal into what they are made of.
func writeParts(w io.Writer, m *measurements) {
	fmt.Fprint(w, `
## Where the time goes

In shares of Open and Seal. The AEAD is the floor; each other part ran in a loop of its own; the rest is what remains: looking
up the key, the workspace, and what the processor does not overlap. "of which" is a share of the line above.
`)
	for _, t := range []struct {
		whole string
		parts []part
	}{
		{"Open", []part{
			{"AEAD", "FloorOpen", false}, {"clock", "OpenPart/clock", false},
			{"text", "OpenPart/text", false}, {"payload", "OpenPart/payload", false},
		}},
		{"Seal", []part{
			{"AEAD and nonce", "FloorSeal", false}, {"clock", "SealPart/clock", false},
			{"payload", "SealPart/payload", false}, {"of which the map of attributes", "SealPart/map", true},
			{"text", "SealPart/text", false},
		}},
	} {
		table(w, append([]string{t.whole}, sizes...), partRows(m, t.whole, t.parts))
	}
}

// A part is a benchmark of something that another one does too.
type part struct {
	name, benchmark string
	within          bool // the part before
}

func partRows(m *measurements, whole string, parts []part) [][]string {
	rest := make([]float64, len(sizes))
	var rows [][]string
	for _, p := range parts {
		row := []string{p.name}
		for i, size := range sizes {
			of := p.benchmark + "/" + size
			if !m.has(of) {
				of = p.benchmark // the same for every size
			}
			share := m.time(of, whole+"/"+size)
			if !p.within {
				rest[i] += share
			}
			row = append(row, number(share))
		}
		rows = append(rows, row)
	}
	last := []string{"the rest"}
	for _, share := range rest {
		last = append(last, number(1-share))
	}
	return append(rows, last)
}

// writePeers compares other libraries with this one.
func writePeers(w io.Writer, m *measurements) {
	fmt.Fprint(w, `
## Other libraries

Times are relative to those of chattoken for the same claims, whose own row has all ones. "+ CBOR" is a library without claims,
with a compact array by fxamacker/cbor put on it; "signed" is not encrypted. chattoken verifies into a Session; "copied out" is
the same with all claims copied to strings and a map, as the others return them. The last column is how many times as
many tokens all processors verify as one of them does.
`)
	var rows [][]string
	for _, p := range m.children("Verify/") {
		row := []string{label(p)}
		for _, size := range []string{"small", "large"} {
			row = append(row, number(m.median(series{"Mint/" + p + "/" + size, characters})))
		}
		for _, what := range []string{"Mint", "Verify"} {
			for _, size := range sizes {
				row = append(row, number(m.time(what+"/"+p+"/"+size, what+"/"+ours+"/"+size)))
			}
			row = append(row, number(m.median(series{what + "/" + p + "/small", allocations})))
		}
		rows = append(rows, append(row, number(m.time("Verify/"+p+"/small", "VerifyParallel/"+p+"/small"))))
	}
	table(w, []string{"", "characters S", "L", "mint S", "M", "L", "allocations S",
		"verify S", "M", "L", "allocations S", "processors"}, rows)
}

// writeStrangers shows what it costs to refuse, and what is not refused.
func writeStrangers(w io.Writer, m *measurements) {
	fmt.Fprint(w, `
## What strangers can do

A forgery is a small token of which one character was changed; its time is relative to chattoken's for the same. Junk is a mebibyte
of dots, or of letters; its time is relative to chattoken's for a small, valid token, and beside it is the memory allocated for
it. Respellings are the texts, of those tried, that differ from a token's and verify as that token: a block list or a
replay guard that is keyed on the text is passed by them. Panics are the beginnings of a token's text that make the library panic.
`)
	var rows [][]string
	for _, p := range m.children("Forged/") {
		row := []string{label(p), number(m.time("Forged/"+p+"/small", "Forged/"+ours+"/small"))}
		for _, kind := range m.children("Junk/" + p + "/") {
			junk := "Junk/" + p + "/" + kind
			row = append(row, number(m.time(junk, "Verify/"+ours+"/small")),
				mebibytes(m.median(series{junk, bytesPerOp})))
		}
		rows = append(rows, append(row, number(m.median(series{"Faults/" + p, "respellings"})),
			number(m.median(series{"Faults/" + p, "panics"}))))
	}
	table(w, []string{"", "forgery", "dots", "MiB", "letters", "MiB", "respellings", "panics"}, rows)
}

func mebibytes(v float64) string { return fmt.Sprintf("%.1f", v/(1<<20)) }

// writeGuards compares what could remember spent tokens.
func writeGuards(w io.Writer, m *measurements) {
	fmt.Fprint(w, `
## Guards

Times are for spending one more token where so many are spent already, relative to chattoken's guard. Caches have room for a
quarter more. Accepted are the tokens, in percent, that could be spent a second time: with that room, and (full) where twice as many were
spent as there is room for. A guard that accepts any is none.
`)
	for _, size := range []string{"1M", "8M"} {
		var rows [][]string
		for _, p := range m.children("GuardPeer/") {
			at := "GuardPeer/" + p + "/" + size
			if m.has(at + "/fresh") {
				rows = append(rows, guardRow(m, p, at, "GuardPeer/"+ours+"/"+size))
			}
		}
		for _, p := range m.children("GuardBaseline/") {
			if m.has("GuardBaseline/" + p + "/fresh/" + size) {
				rows = append(rows, baselineRow(m, p, size))
			}
		}
		if len(rows) > 0 {
			table(w, []string{size, "fresh", "replay", "bytes a token", "accepted", "full"}, rows)
		}
	}
}

func guardRow(m *measurements, p, at, base string) []string {
	return []string{p,
		number(m.time(at+"/fresh", base+"/fresh")),
		number(m.time(at+"/replay", base+"/replay")),
		number(m.median(series{at + "/fresh", "B/token"})),
		number(m.median(series{at + "/replay", "%accepted"})),
		number(m.median(series{"GuardFlood/" + p, "%accepted"})),
	}
}

// baselineRow is one of the root module's, which names the size last.
func baselineRow(m *measurements, p, size string) []string {
	fresh, again := "GuardBaseline/"+p+"/fresh/"+size, "GuardBaseline/"+p+"/replay/"+size
	return []string{p + " (without expiry)",
		number(m.time(fresh, "Guard/fresh/"+size)),
		number(m.time(again, "Guard/replay/"+size)),
		number(m.median(series{fresh, "B/token"})),
		"–", "–",
	}
}

const reproduceText = `
## Again

From the root of the repository, on a machine that has nothing else to do:

	make bench            # everything; the guards with eight million tokens take gigabytes
	make bench QUICK=1    # fewer rounds, without those
	make bench-check      # what must not get worse, and nothing written
	go test -bench . ./bench

## Medians

Of all rounds; the bare AEAD of a small token, FloorOpen/small, takes 1. The quotient of two medians need not be the median of
the quotients.

<details><summary>all benchmarks</summary>
`

func writeRaw(w io.Writer, m *measurements) {
	fmt.Fprint(w, reproduceText)
	var rows [][]string
	unit := m.median(series{"FloorOpen/small", nanoseconds})
	for _, name := range slices.Sorted(slices.Values(m.names)) {
		rows = append(rows, []string{name, number(m.median(series{name, nanoseconds}) / unit),
			number(m.median(series{name, bytesPerOp})), number(m.median(series{name, allocations}))})
	}
	table(w, []string{"", "time", "B", "allocations"}, rows)
	fmt.Fprint(w, "\n</details>\n")
}
