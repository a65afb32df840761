// The model is one goroutine, with which the race detector would take ten times
// as long.

//go:build !race

package valkey

import (
	"hash/maphash"
	"slices"
	"strings"
	"testing"
)

// The model explores every order of events in small worlds, breadth first, with
// gateways that call the functions of rules.go. A world has one token. All
// times are relative to now and end where they cannot matter any more, so most
// worlds are finite without a bound on their steps.

// move is what leads from one state to another: an operation and whom it
// concerns.
type move struct{ op, a, b uint8 }

// search is a breadth-first search, and what it found.
type search[S comparable] struct {
	start S
	next  func(s S, emit func(m move, t S, bad string))
	name  func(m move) string
	stop  string // ends the search when it is found; empty: never; whatever: the first

	states int
	traces map[string][]string // by what went wrong: the shortest way to it
}

const whatever = "whatever"

// origin is how a state was reached first.
type origin struct {
	parent int32
	move   move
}

// run explores. States are known by 128 bits of a random hash.
func (x *search[S]) run() *search[S] {
	seeds := [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}
	digest := func(s S) [2]uint64 {
		return [2]uint64{maphash.Comparable(seeds[0], s), maphash.Comparable(seeds[1], s)}
	}
	x.traces = map[string][]string{}
	seen := map[[2]uint64]struct{}{digest(x.start): {}}
	origins := []origin{{parent: -1}}
	level, first := []S{x.start}, 0
	for len(level) > 0 {
		var below []S
		for i, s := range level {
			at := int32(first + i)
			x.next(s, func(m move, t S, bad string) {
				if bad != "" && x.traces[bad] == nil {
					x.traces[bad] = x.trace(origins, at, m)
				}
				d := digest(t)
				if _, ok := seen[d]; ok {
					return
				}
				seen[d] = struct{}{}
				origins = append(origins, origin{at, m})
				below = append(below, t)
			})
			if x.traces[x.stop] != nil || x.stop == whatever && len(x.traces) > 0 {
				x.states = len(origins)
				return x
			}
		}
		first += len(level)
		level = below
	}
	x.states = len(origins)
	return x
}

func (x *search[S]) trace(origins []origin, at int32, last move) []string {
	steps := []string{x.name(last)}
	for ; origins[at].parent >= 0; at = origins[at].parent {
		steps = append(steps, x.name(origins[at].move))
	}
	slices.Reverse(steps)
	return steps
}

// log prints the shortest trace to bad.
func (x *search[S]) log(t *testing.T, bad string) {
	t.Helper()
	steps := x.traces[bad]
	t.Logf("    %s, in %d steps, after %d states: %s", bad, len(steps), x.states, strings.Join(steps, "; "))
}
