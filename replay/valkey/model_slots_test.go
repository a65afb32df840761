//go:build !race

package valkey

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The model of a Cluster: two servers and one slot, T's, that moves between
// them. Both servers always hold other slots, so their nonces live on. A
// gateway has a belief in each server and a mark of the slot. A tick is 5 s, D
// is three.

const cTwice = "twice, though the slot did not come back too soon"

type cGateway struct {
	view   uint8 // the slot's server, as far as it knows
	age    uint8 // ticks since it read the map; ends at D
	nonces [2]uint8
	known  [2]bool
	mark   int8 // of the slot, in ticks after now
	won    bool
}

type cState struct {
	owner    uint8
	tokens   [2]bool
	nonces   [2]uint8 // 0, or a number that is fresh
	ages     [2]uint8 // ticks since it had the slot; ends at D
	gateways [2]cGateway
	minted   bool
	issued   int8
	won      bool
}

type cWorld struct {
	mapCounts  func(since time.Duration) bool
	slotRaises func(same bool, since time.Duration) bool
	apart      bool // no slot comes back sooner than D
	losing     bool // servers lose all data
}

const cLife = 3

func cClock(ticks int8) clock { return base + 5000*clock(ticks) }

func cTicks(c clock) int8 { return int8(max(-far, (c-base)/5000)) }

func cBelief(g *cGateway, server uint8) belief {
	b := belief{past: cClock(-far)}
	if g.known[server] {
		b.conn, b.identity = 1, identity{runIDs[1+server], replIDs[1+server]}
		b.nonce = mNonce{g.nonces[server], 1 + server, 1 + server}.text()
	}
	return b
}

func (s *cState) answer(server uint8) answer {
	return answer{
		conn: 1, primary: true, identity: identity{runIDs[1+server], replIDs[1+server]},
		nonce: mNonce{s.nonces[server], 1 + server, 1 + server}.text(), time: base,
	}
}

const (
	copTick uint8 = iota
	copMint
	copMove
	copFail
	copMap
	copVerify
	copSpend
	copLose
)

func cName(m move) string {
	g, s := fmt.Sprintf("g%d", m.a+1), string(rune('A'+m.b))
	return [...]string{
		"a tick", "T is minted", "the slot moves with its data", "the slot moves without its data",
		g + " reads the map", g + " verifies " + s, "T is shown to " + g, s + " loses its data",
	}[m.op]
}

func (w *cWorld) next(s cState, emit func(m move, t cState, bad string)) {
	do := func(op, a, b uint8, event func(s *cState) (bool, string)) {
		t := s
		if ok, bad := event(&t); ok {
			t.settle()
			emit(move{op, a, b}, t, bad)
		}
	}
	do(copTick, 0, 0, func(s *cState) (bool, string) { s.pass(); return true, "" })
	if !s.minted {
		do(copMint, 0, 0, func(s *cState) (bool, string) { s.minted, s.issued = true, 0; return true, "" })
	}
	if !w.apart || s.ages[1-s.owner] >= cLife {
		do(copMove, 0, 0, func(s *cState) (bool, string) {
			s.tokens[1-s.owner], s.tokens[s.owner] = s.tokens[s.owner], false
			s.owner = 1 - s.owner
			return true, ""
		})
		do(copFail, 0, 0, func(s *cState) (bool, string) { s.owner = 1 - s.owner; return true, "" })
	}
	for i := range uint8(2) {
		do(copMap, i, 0, func(s *cState) (bool, string) {
			g := &s.gateways[i]
			raises := w.slotRaises(g.view == s.owner, 5*time.Second*time.Duration(g.age))
			if g.view, g.age = s.owner, 0; raises {
				g.mark = cTicks(raise(cClock(g.mark), cClock(-far), base, base))
			}
			return true, ""
		})
		for server := range uint8(2) {
			do(copLose, i, server, func(s *cState) (bool, string) {
				s.nonces[server], s.tokens[server] = 0, false
				return i == 0 && w.losing, ""
			})
			do(copVerify, i, server, func(s *cState) (bool, string) { w.verify(s, i, server); return true, "" })
		}
		if s.minted {
			do(copSpend, i, 0, func(s *cState) (bool, string) { return w.spend(s, i) })
		}
	}
}

func (w *cWorld) verify(s *cState, i, server uint8) {
	g := &s.gateways[i]
	b := cBelief(g, server)
	if b.next(s.answer(server), s.answer(server)) == stepWrite {
		s.nonces[server] = 3 // new to both: see settle
	}
	b, other := b.adopt(s.answer(server))
	g.known[server], g.nonces[server] = true, s.nonces[server]
	if other && g.view == server {
		g.mark = cTicks(raise(cClock(g.mark), b.past, base, base))
	}
}

// spend shows T to a gateway, which has the reply at once.
func (w *cWorld) spend(s *cState, i uint8) (ok bool, bad string) {
	g := &s.gateways[i]
	server := g.view
	token := &mToken{cClock(s.issued), 5000}
	if server != s.owner || !g.known[server] || judgeSpend(token, cClock(g.mark), base, base) != counts {
		return false, ""
	}
	fresh := !s.tokens[server]
	s.tokens[server] = true
	_, trust := cBelief(g, server).judge(s.answer(server), base)
	if trust != believe || !w.mapCounts(5*time.Second*time.Duration(g.age)) || !fresh {
		return true, ""
	}
	if s.won {
		bad = cTwice
	}
	if g.won {
		bad = sameTwice
	}
	s.won, g.won = true, true
	return true, bad
}

func (s *cState) pass() {
	s.issued = max(s.issued-1, -3)
	for i := range s.ages {
		s.ages[i] = min(s.ages[i]+1, cLife)
	}
	s.ages[s.owner] = 0
	for i := range s.gateways {
		g := &s.gateways[i]
		g.age = min(g.age+1, cLife)
		g.mark = earlier(g.mark)
	}
}

// settle is as in the other model. A nonce is 1 if it is there, and 2 if it
// was.
func (s *cState) settle() {
	for server, n := range s.nonces {
		for i := range s.gateways {
			switch have := &s.gateways[i].nonces[server]; {
			case *have == 0:
			case *have == n:
				*have = 1
			default:
				*have = 2
			}
		}
		s.nonces[server] = min(n, 1)
	}
	token := &mToken{cClock(s.issued), 5000}
	for i := range s.gateways {
		g := &s.gateways[i]
		switch {
		case !s.minted:
			g.mark = max(g.mark, -3)
		case token.IssuedBefore(cClock(g.mark).time()):
			g.mark = far
		default:
			g.mark = -far
		}
	}
	if !s.minted {
		s.issued = 0
	}
}

func (w cWorld) explore(stop string) *search[cState] {
	start := cState{ages: [2]uint8{0, cLife}}
	start.settle()
	return (&search[cState]{start: start, next: w.next, name: cName, stop: stop}).run()
}

// TestModelOfSlots explores what the rules say of slots, and faults of it.
func TestModelOfSlots(t *testing.T) {
	w := cWorld{mapCounts, slotRaises, true, soak()}
	x := w.explore("")
	t.Logf("slots: %d states, all that there are", x.states)
	require.Empty(t, x.traces)

	w.losing = false
	for name, fault := range map[string]func(w *cWorld){
		"a slot comes back too soon": func(w *cWorld) { w.apart = false },
		"an old map is relied on":    func(w *cWorld) { w.mapCounts = func(time.Duration) bool { return true } },
		"an old map is forgotten": func(w *cWorld) {
			w.slotRaises = func(same bool, _ time.Duration) bool { return !same }
		},
		"another owner raises nothing": func(w *cWorld) {
			w.slotRaises = func(_ bool, since time.Duration) bool { return !mapCounts(since) }
		},
	} {
		w := w
		fault(&w)
		x := w.explore(whatever)
		t.Log(name)
		for _, bad := range slices.Sorted(maps.Keys(x.traces)) {
			x.log(t, bad)
		}
		require.NotEmpty(t, x.traces, name)
	}
}
