// The model is one goroutine, and takes ten times as long with the race
// detector.

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
// times are relative to now, and end when they no longer matter, so most worlds
// are finite without a bound on their steps.

// move leads from one state to another: an operation and its subjects.
type move struct{ op, a, b uint8 }

// search is a breadth-first search, and what it found.
type search[S comparable] struct {
	start S
	next  func(s S, emit func(m move, t S, bad string))
	name  func(m move) string
	stop  string // the finding that ends the search, whatever: any

	states int
	traces map[string][]string // by finding: the shortest way to it
}

const whatever = "whatever"

// origin is how a state was first reached.
type origin struct {
	parent int32
	move   move
}

// run explores. It knows states by 128 bits of a random hash.
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
