package fuzz_test

import (
	"strings"
	"testing"
	"time"
)

// FuzzOpen opens any text at any time. The gateway accepts only tokens that
// were sealed before, in their one spelling. It refuses for the reason that the
// reference gives.
func FuzzOpen(f *testing.F) {
	g := newGateway(f)
	sealed := map[string]bool{}
	for _, text := range testTokens(f) {
		sealed[text] = true
	}
	f.Fuzz(func(t *testing.T, text string, ns int64) {
		if g.requireAsReference(t, text, after(ns)) && !sealed[text] {
			t.Fatalf("accepted, but never sealed: %q", text)
		}
	})
}

func openSeeds(t testing.TB) []seed {
	tokens := testTokens(t)
	good := tokens[6]
	expiration := int64(time.Minute)
	seeds := []seed{
		{"empty", args("", int64(0))},
		{"prefix", args("ct1_", int64(0))},
		{"other-version", args("ct2_"+good[4:], int64(0))},
		{"no-prefix", args(good[4:], int64(0))},
		{"cut", args(good[:len(good)-1], int64(0))},
		{"twice", args(good+good, int64(0))},
		{"padded", args(good+"=", int64(0))},
		{"line-break", args(good[:40]+"\r\n"+good[40:], int64(0))},
		{"too-short-text", args("ct1_"+strings.Repeat("A", 71), int64(0))},
		{"shortest-text", args("ct1_"+strings.Repeat("A", 72), int64(0))},
		{"longest-text", args("ct1_"+strings.Repeat("_", 3846), int64(0))},
		{"too-long-text", args("ct1_"+strings.Repeat("_", 3847), int64(0))},
		{"last-nanosecond", args(good, expiration-1)},
		{"expired", args(good, expiration)},
		{"future", args(good, -int64(6*time.Second))},
		{"skew", args(good, -int64(5*time.Second))},
		{"key-gone", args(good, int64(10*time.Hour))},
	}
	for i, name := range []string{"expired", "retired", "primary", "pending", "revoked"} {
		for j, size := range []string{"example", "short", "long"} {
			seeds = append(seeds, seed{"key-" + name + "-" + size, args(tokens[3*i+j], int64(0))})
		}
	}
	for i, name := range []string{"4", "5", "beyond-session", "600", "601"} {
		seeds = append(seeds, seed{"ttl-" + name, args(tokens[15+i], int64(0))})
	}
	return seeds
}
