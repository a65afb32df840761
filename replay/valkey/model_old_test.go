//go:build !race

package valkey

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// The former rules. The server holds an epoch for ever, with a mark that all
// gateways share. A gateway that finds one of its process is ready at once. It
// verifies every five seconds, which is a tick, and reads the epoch after the
// SET, but neither role nor replication ID.

// oldAsk is what settle did.
func (w *world) oldAsk(s *mState, i uint8, now answer) bool {
	g := &s.gateways[i]
	d := &s.servers[g.server-1].data[0]
	mine := now.wrote(now.nonce)
	older := g.nonce != d.nonce && g.nonce.k != 0 && (d.mark < g.knownMark || d.nonce.k == g.left)
	switch {
	case !now.primary:
		w.hangUp(s, i)
		return true
	case !mine || older:
		g.asked = askWrite
		return true
	}
	if g.nonce != d.nonce {
		g.mark, g.left = max(g.mark, d.mark), g.nonce.k
		g.nonce, g.knownMark = d.nonce, d.mark
	}
	g.age = 0
	return w.adopted(s, i)
}

// oldMark returns the mark of an epoch that a gateway begins.
func (w *world) oldMark(s *mState, i uint8) int8 {
	g := &s.gateways[i]
	return max(g.off, s.servers[g.server-1].off, g.knownMark)
}

// oldRuling judged the reply to a spend by the mark alone.
func oldRuling(t issued, mark, _, _ clock) ruling {
	if t.IssuedBefore(mark.time()) {
		return beforeMark
	}
	return counts
}

func oldWorld(servers int, leads ...uint8) world {
	w := sized(servers, leads...)
	w.old, w.lean, w.d, w.ruling = true, false, 3, oldRuling
	return w
}

// oldFaults are cases that were seen on real servers, and their worlds.
var oldFaults = []struct {
	name  string
	world world
	finds string
	steps int
}{
	{"F1: a gateway moves to a server that another one declared lossy before", oldWorld(2, 0b11, 0b11).with(func(w *world) { w.apart = false }), sameTwice, 9},
	{"F2: epochs of one second", oldWorld(3, 0b111), sameTwice, 11},
	{"F3: an issuer and a gateway that are fast", oldWorld(1, 1, 1).with(func(w *world) { w.restart, w.gatewayOff, w.issuers = true, [3]int8{3, 0}, []int8{3} }), twice, 10},
	{"F4: gateways that restart where they were once", oldWorld(2, 0b11).with(func(w *world) { w.restartGate, w.onlyRestart = true, true }), twice, 12},
	{"F9: a server that stood still while others moved", oldWorld(2, 0b11, 0b01), twice, 10},
	{"F10: WAIT, and a replica that follows another primary", oldWorld(3, 0b010, 0b001).with(func(w *world) {
		w.roles, w.replicas, w.apart, w.follows = true, true, false, [3]uint8{0, 0, 1}
	}), splitBrain, 10},
	{"F11: roles change over a kept connection", oldWorld(2, 0b01).with(func(w *world) { w.roles, w.follows = true, [3]uint8{0, 1} }), sameTwice, 12},
}

// TestModelOldRules shows that the model finds these cases, and that the rules
// close them. Only F10 stays: a split brain.
func TestModelOldRules(t *testing.T) {
	for _, m := range oldFaults {
		x := m.world.explore(m.finds)
		t.Log(m.name)
		x.log(t, m.finds)
		require.Len(t, x.traces[m.finds], m.steps, m.name)

		w := m.world
		w.old, w.replicas, w.lean, w.rules = false, false, true, theRules()
		x = w.explore(m.finds)
		require.Equal(t, m.finds == splitBrain, x.traces[m.finds] != nil, m.name)
		if m.finds != splitBrain {
			t.Logf("    under the rules never: %d states, all that there are", x.states)
		}
	}
}
