package peers_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// faults are what a token must not have, counted.
type faults struct {
	respellings int // other texts that verify as the same token
	panics      int // beginnings of the text that make verify panic
}

// findFaults looks at tokens of three lengths in a row and returns the worst,
// because the spare bits of the last character depend on the length.
func findFaults(t testing.TB, p peer) faults {
	var worst faults
	g := sizes[1].grant
	for range 3 {
		g.User += "x"
		text := mint(t, p, g)
		worst.respellings = max(worst.respellings, countRespellings(t, p, text))
		worst.panics = max(worst.panics, countPanics(p, text))
	}
	return worst
}

func countRespellings(t testing.TB, p peer, text string) int {
	var want grant
	assert.NoError(t, p.verify(text, &want))
	n := 0
	for other := range respellings(text) {
		var got grant
		if verifySafely(p, other, &got) == nil && reflect.DeepEqual(got, want) {
			n++
		}
	}
	return n
}

func countPanics(p peer, text string) int {
	n := 0
	for i := range text {
		var g grant
		if errors.Is(verifySafely(p, text[:i], &g), errPanic) {
			n++
		}
	}
	return n
}

var errPanic = errors.New("panic")

func verifySafely(p peer, text string, g *grant) (err error) {
	defer func() {
		if recover() != nil {
			err = errPanic
		}
	}()
	return p.verify(text, g)
}

// respellings are texts that a lenient decoder takes for text.
func respellings(text string) map[string]bool {
	set := map[string]bool{
		strings.NewReplacer("-", "+", "_", "/").Replace(text): true,
		strings.TrimRight(text, "="):                          true,
	}
	for _, at := range segmentEnds(text) {
		for _, insert := range []string{"\n", "\r", "\r\n", " ", "\t", "\x00", "=", "==", ".", "%3D"} {
			set[text[:at]+insert+text[at:]] = true
		}
		for _, c := range "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_" {
			if at > 0 {
				set[text[:at-1]+string(c)+text[at:]] = true
			}
		}
	}
	delete(set, text)
	return set
}

// segmentEnds are the beginning of text, its middle, and the ends of its parts.
// Dots separate the parts, and equals signs may pad them.
func segmentEnds(text string) []int {
	ends := []int{0, len(text) / 2, len(text), len(strings.TrimRight(text, "="))}
	for i, c := range text {
		if c == '.' {
			ends = append(ends, i)
		}
	}
	return ends
}

// Our tokens have one spelling. Others' have more, so the test does find
// respellings.
func TestFaults(t *testing.T) {
	found := 0
	for _, tt := range peers {
		got := findFaults(t, tt.make(t))
		t.Logf("%-18s %+v", tt.name, got)
		if strings.HasPrefix(tt.name, "chattoken") {
			assert.Zero(t, got, tt.name)
		}
		found += got.respellings
	}
	assert.NotZero(t, found)
}

// Faults counts. It measures no time.
func BenchmarkFaults(b *testing.B) {
	for _, bm := range peers {
		b.Run("lib="+bm.name, func(b *testing.B) {
			var f faults
			for b.Loop() {
				f = findFaults(b, bm.make(b))
			}
			b.ReportMetric(float64(f.respellings), "respellings")
			b.ReportMetric(float64(f.panics), "panics")
		})
	}
}
