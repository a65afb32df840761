//go:build !race

package valkey

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// mutants are rules with a fault each, and a world that shows it.
var mutants = []struct {
	name   string
	change func(r *rules)
	world  world
	finds  string
	steps  int // of the shortest trace
}{
	{"rule 2: the tail is read before the SET", func(r *rules) { r.tailFirst = true },
		sized(1, 1, 1).with(func(w *world) { w.flush, w.slow, w.split = true, 1, true }), twice, 11},
	{"rule 2: the nonce alone is judged", func(r *rules) {
		r.judge = func(b belief, a answer, own clock) (belief, trust) {
			a.primary, a.replID = true, b.replID
			return b.judge(a, own)
		}
	}, sized(2, 0b01).with(func(w *world) { w.roles = true }), sameTwice, 13},
	{"rule 2: run_id alone is the identity", func(r *rules) {
		r.next = func(b belief, first, now answer) step {
			now.nonce = now.newNonce("any")
			return b.next(first, now)
		}
		r.adopt = func(b belief, a answer) (belief, bool) {
			a.replID = ""
			return b.adopt(a)
		}
		r.judge = func(b belief, a answer, own clock) (belief, trust) {
			a.replID = ""
			return b.judge(a, own)
		}
	}, sized(2, 0b01).with(func(w *world) { w.roles = true }), sameTwice, 9},
	{"rule 3: no mark at the start", func(r *rules) {
		r.adopt = func(b belief, a answer) (belief, bool) {
			next, other := b.adopt(a)
			return next, other && b.runID != ""
		}
	}, sized(2, 0b11).with(func(w *world) { w.restartGate = true }), twice, 6},
	{"rule 3: no mark for another pair", func(r *rules) {
		r.adopt = func(b belief, a answer) (belief, bool) {
			next, other := b.adopt(a)
			return next, other && b.runID == ""
		}
	}, sized(1, 1).with(func(w *world) { w.flush = true }), sameTwice, 10},
	{"rule 3: the mark is by the own clock alone", func(r *rules) {
		r.raise = func(mark, past, own, _ clock) clock { return raise(mark, past, own, own) }
	}, sized(1, 1, 1).with(func(w *world) { w.flush, w.gatewayOff = true, [3]int8{0, -3} }), twice, 11},
	{"rule 3: the mark is by TIME alone", func(r *rules) {
		r.raise = func(mark, past, _, server clock) clock { return raise(mark, past, server, server) }
	}, sized(2, 0b01, 0b10).with(func(w *world) { w.serverOff = [3]int8{0, -3} }), twice, 10},
	{"rule 3: the mark forgets what counted", func(r *rules) {
		r.raise = func(mark, _, own, server clock) clock { return raise(mark, mark, own, server) }
	}, sized(2, 0b11).with(func(w *world) { w.stepGate, w.serverOff, w.issuers, w.apart = 3, [3]int8{0, -3}, []int8{0}, false }), sameTwice, 13},
	{"rule 4: what is there is adopted", func(r *rules) {
		r.next = func(b belief, first, now answer) step {
			b.runID = ""
			return b.next(first, now)
		}
	}, sized(2, 0b11, 0b10).with(func(w *world) { w.apart = false }), afterVerify, 10},
	{"rule 1: an extension does not compare", func(r *rules) { r.blind = true },
		sized(2, 0b10, 0b11).with(func(w *world) { w.misled = true }), twice, 9},
	{"rule 1: a replacement is tried again with the same random bytes", func(r *rules) { r.same = true },
		sized(1, 1).with(func(w *world) { w.races, w.late, w.flush = true, true, true }), sameTwice, 15},
	{"rule 5: the mark is not asked for on the reply", func(r *rules) {
		r.ruling = func(t issued, _, own, server clock) ruling { return judgeSpend(t, 0, own, server) }
	}, sized(1, 1, 1).with(func(w *world) { w.restart, w.slow, w.lateSend = true, 1, true }), twice, 13},
	{"rule 5: a clock ahead is not asked for", func(r *rules) {
		r.entry = oldRuling
		r.ruling = oldRuling
	}, sized(1, 1, 1).with(func(w *world) { w.restart, w.issuers = true, []int8{3} }), sameTwice, 6},
	{"rule 5: TIME is not asked for on the reply", func(r *rules) {
		r.ruling = func(t issued, mark, own, _ clock) ruling { return judgeSpend(t, mark, own, own) }
	}, sized(1, 1, 1).with(func(w *world) { w.restart, w.gatewayOff, w.issuers = true, [3]int8{3}, []int8{3} }), twice, 11},
	{"rule 5: the own clock is not asked for on the reply, nor on entry", func(r *rules) {
		r.entry = oldRuling
		r.ruling = func(t issued, mark, _, server clock) ruling { return judgeSpend(t, mark, server, server) }
	}, sized(2, 0b01, 0b10).with(func(w *world) { w.serverOff, w.issuers = [3]int8{3}, []int8{3} }), twice, 10},
	{"rule 5: no clock is asked for on entry", func(r *rules) { r.entry = oldRuling },
		sized(1, 1, 1).with(func(w *world) {
			w.restart, w.slow, w.issuers, w.serverOff = true, 1, []int8{3}, [3]int8{3}
			w.stepServer, w.maxRare = 3, 4
		}), twice, 12},
	{"rule 6: another call's value counts", func(r *rules) {
		r.first = func(string, bool, string) (fresh, ok bool) { return true, true }
	}, sized(1, 1), sameTwice, 7},
	{"an eviction is not doubted", func(r *rules) { r.undoubted = true },
		sized(1, 1).with(func(w *world) { w.evict, w.polledAtOnce = true, true }), sameTwice, 9},
}

// TestModelMutants checks that the model finds each fault. Two rules are a
// second line of defence, whose lack the model does not notice: that a belief
// knows its connection, and that a nonce names the identity that it was written
// to.
func TestModelMutants(t *testing.T) {
	for _, m := range mutants {
		w := m.world
		w.lean = false
		m.change(&w.rules)
		x := w.explore(m.finds)
		t.Log(m.name)
		x.log(t, m.finds)
		require.Len(t, x.traces[m.finds], m.steps, m.name)
	}
}
