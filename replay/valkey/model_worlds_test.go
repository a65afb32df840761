//go:build !race

package valkey

import (
	"maps"
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// soak reports whether the deep worlds are explored, too.
func soak() bool { return os.Getenv("CHATTOKEN_SOAK") == "1" }

// explore explores a world, until it finds stop, if that is not empty.
func (w world) explore(stop string) *search[mState] {
	x := &search[mState]{start: w.start(), next: w.next, name: moveName, stop: stop}
	return x.run()
}

// sized returns a world whose gateways are led to servers, given as bits.
func sized(servers int, leads ...uint8) world {
	w := world{rules: theRules(), gateways: len(leads), servers: servers, issuers: []int8{0}, apart: true, lean: true}
	copy(w.leads[:], leads)
	return w
}

func (w world) with(change func(w *world)) world {
	change(&w)
	return w
}

// worlds are explored to the end, deep ones only with CHATTOKEN_SOAK=1.
var worlds = []struct {
	name  string
	deep  bool
	world world
	finds []string // what no rule closes, or is beyond the assumptions
}{
	{"moves", false, sized(2, 0b11, 0b11).with(func(w *world) { w.slow, w.lateSend = 3, true }), nil},
	{"moves, D is three ticks", false, sized(2, 0b11, 0b11).with(func(w *world) { w.d, w.slow = 3, 1 }), nil},
	{"moves among three servers", false, sized(3, 0b111, 0b111), nil},
	{"moves among three servers, late", true, sized(3, 0b111, 0b111).with(func(w *world) { w.slow, w.lateSend = 3, true }), nil},
	{"moves of three gateways", false, sized(2, 0b11, 0b11, 0b11), nil},
	{"moves of three gateways, late", true, sized(2, 0b11, 0b11, 0b11).with(func(w *world) { w.slow = 1 }), nil},
	{"split brain", false, sized(2, 0b11, 0b11).with(func(w *world) { w.apart, w.slow, w.lateSend = false, 3, true }), []string{splitBrain}},
	{"split brain of three gateways", true, sized(2, 0b11, 0b11, 0b11).with(func(w *world) { w.apart, w.slow = false, 1 }), []string{splitBrain}},
	{"a server comes back after two thirds of D", false, sized(2, 0b11, 0b10).with(func(w *world) { w.d, w.stays = 3, 2 }), []string{tooSoon}},
	{"two pipelines of one gateway", false, sized(2, 0b11, 0b11).with(func(w *world) { w.apart, w.twins, w.slow, w.lateSend = false, true, 3, true }), nil},
	{"two pipelines of one gateway, amid FLUSHALL", false, sized(1, 1, 1).with(func(w *world) { w.twins, w.flush, w.slow, w.split, w.lateSend = true, true, 3, true, true }), nil},
	{"two pipelines of one gateway, and roles", true, sized(2, 0b11, 0b11).with(func(w *world) {
		w.apart, w.twins, w.roles, w.slow, w.split, w.maxRare = false, true, true, 3, true, 4
	}), nil},
	{"gateways restart", false, sized(2, 0b11, 0b11).with(func(w *world) { w.restartGate, w.slow = true, 1 }), nil},
	{"gateways restart, late", true, sized(2, 0b11, 0b11).with(func(w *world) { w.restartGate, w.slow, w.lateSend, w.d = true, 3, true, 3 }), nil},
	{"servers restart", false, sized(1, 1, 1).with(func(w *world) { w.restart, w.slow, w.split, w.lateSend = true, 3, true, true }), nil},
	{"servers restart, and moves", false, sized(2, 0b11, 0b11).with(func(w *world) { w.restart = true }), nil},
	{"servers and gateways restart, and moves", true, sized(2, 0b11, 0b11).with(func(w *world) { w.restart, w.restartGate, w.slow, w.split = true, true, 1, true }), nil},
	{"FLUSHALL", false, sized(1, 1, 1).with(func(w *world) { w.flush, w.slow, w.split, w.lateSend = true, 3, true, true }), nil},
	{"FLUSHALL, and moves", true, sized(2, 0b11, 0b11).with(func(w *world) { w.flush, w.slow, w.split, w.lateSend = true, 3, true, true }), nil},
	{"SWAPDB", false, sized(1, 1, 1).with(func(w *world) { w.swap, w.slow, w.split = true, 1, true }), nil},
	{"SWAPDB, late", true, sized(1, 1, 1).with(func(w *world) { w.swap, w.slow, w.split, w.lateSend = true, 3, true, true }), nil},
	{"SWAPDB back too soon", false, sized(1, 1, 1).with(func(w *world) { w.swap, w.apart = true, false }), []string{splitBrain, afterVerify}},
	{"roles over kept connections", false, sized(2, 0b01).with(func(w *world) { w.roles, w.slow, w.split, w.lateSend = true, 1, true, true }), nil},
	{"roles, and moves", false, sized(2, 0b01, 0b11).with(func(w *world) { w.roles, w.maxRare = true, 4 }), nil},
	{"roles without end, and moves", true, sized(2, 0b11, 0b11).with(func(w *world) { w.roles = true }), nil},
	{"roles, moves and late pipelines", true, sized(2, 0b11, 0b11).with(func(w *world) { w.roles, w.maxRare, w.slow, w.split, w.lateSend = true, 4, 1, true, true }), nil},
	{"roles in a split brain", false, sized(2, 0b11, 0b11).with(func(w *world) { w.roles, w.apart, w.maxRare = true, false, 2 }), []string{splitBrain}},
	{"everything in a split brain", true, sized(2, 0b11, 0b11).with(func(w *world) {
		w.apart, w.restart, w.flush, w.roles, w.restartGate, w.attach, w.maxRare = false, true, true, true, true, true, 3
	}), []string{splitBrain}},
	{"a first replica attaches", false, sized(1, 1, 1).with(func(w *world) { w.attach, w.slow, w.split, w.lateSend = true, 3, true, true }), nil},
	{"races and late nonces", false, sized(1, 1, 1).with(func(w *world) { w.races, w.late, w.flush, w.slow = true, true, true, 1 }), nil},
	{"races and late nonces, and moves", true, sized(2, 0b11, 0b10).with(func(w *world) { w.races, w.late = true, true }), nil},
	{"races in a split brain", false, sized(2, 0b11, 0b10).with(func(w *world) { w.races, w.apart = true, false }), []string{splitBrain}},
	{"races and late nonces in a split brain", true, sized(2, 0b11, 0b10).with(func(w *world) { w.races, w.late, w.apart = true, true, false }), []string{splitBrain}},
	{"races of three gateways", true, sized(1, 1, 1, 1).with(func(w *world) { w.races, w.late, w.flush, w.maxRare = true, true, true, 1 }), nil},
	{"clocks at the edge", false, sized(2, 0b11, 0b11).with(func(w *world) {
		w.restart, w.gatewayOff, w.serverOff, w.issuers, w.maxRare = true, [3]int8{1, 0}, [3]int8{0, 1}, []int8{0, 1}, 1
	}), nil},
	{"clocks of gateways step", false, sized(1, 1, 1).with(func(w *world) { w.restart, w.stepGate, w.slow = true, 1, 1 }), nil},
	{"clocks of servers step", false, sized(2, 0b11, 0b10).with(func(w *world) { w.stepServer, w.maxRare = 1, 2 }), nil},
	{"clocks of servers step on and on", true, sized(2, 0b11, 0b11).with(func(w *world) { w.stepServer, w.slow = 1, 1 }), nil},
	{"all clocks step, and moves", true, sized(2, 0b11, 0b10).with(func(w *world) { w.stepServer, w.stepGate = 1, 1 }), nil},
	{"one gateway, and all clocks step far", false, sized(2, 0b11).with(func(w *world) {
		w.apart, w.stepGate, w.stepServer, w.issuers, w.maxRare = false, 3, 3, []int8{-3, 0, 3}, 4
	}), nil},
	{"one gateway, and all clocks step on and on", true, sized(2, 0b11).with(func(w *world) {
		w.apart, w.stepGate, w.stepServer, w.issuers = false, 3, 3, []int8{-3, 0, 3}
	}), nil},
	{"both clocks are slow where a loss is noticed", false, sized(1, 1, 1).with(func(w *world) {
		w.flush, w.gatewayOff, w.serverOff, w.stepServer, w.maxRare = true, [3]int8{0, -3}, [3]int8{-1}, 2, 3
	}), []string{twice}},
	{"a server's clock steps back while it is away for D", false, sized(2, 0b11, 0b10).with(func(w *world) {
		w.stepServer, w.maxRare, w.stays = 1, 1, 2
	}), []string{tooSoon}},
	{"an eviction that nobody notices yet", false, sized(1, 1, 1).with(func(w *world) { w.evict = true }), []string{sameTwice, twice}},
	{"issuer and gateway are fast", false, sized(2, 0b11, 0b11).with(func(w *world) {
		w.restart, w.gatewayOff, w.issuers, w.maxRare = true, [3]int8{3, 0}, []int8{0, 3}, 2
	}), nil},
	{"half seconds", false, sized(1, 1, 1).with(func(w *world) {
		w.restart, w.unit, w.skew, w.gatewayOff, w.serverOff, w.issuers, w.slow = true, 500, 1000, [3]int8{1, 0}, [3]int8{1}, []int8{0, 1, 2}, 1
	}), nil},
	{"quarters of a second", true, sized(2, 0b11, 0b11).with(func(w *world) {
		w.unit, w.skew, w.gatewayOff, w.serverOff, w.issuers = 250, 1000, [3]int8{3, 0}, [3]int8{0, 4}, []int8{0, 2, 4}
	}), nil},
	{"an eviction that all notice before they spend", false, sized(1, 1, 1).with(func(w *world) { w.evict, w.polledAtOnce, w.slow = true, true, 3 }), nil},
}

// TestModel explores the worlds under the rules: I1, I2 and I3 hold.
func TestModel(t *testing.T) {
	states, count := 0, 0
	for _, c := range worlds {
		if c.deep && !soak() {
			continue
		}
		x := c.world.explore("")
		states, count = states+x.states, count+1
		t.Logf("%s: %d states, all that there are", c.name, x.states)
		for _, bad := range c.finds {
			x.log(t, bad)
		}
		require.ElementsMatch(t, c.finds, slices.Collect(maps.Keys(x.traces)), "%s: %v", c.name, x.traces)
	}
	t.Logf("%d worlds, %d states", count, states)
}
