//go:build !race

package valkey

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// The model of rule 7. g1 revokes the user of token T. g2 is shown T, and
// sometimes revokes somebody else. A is the server of both; B is its replica. T
// is minted when all marks are old, so the clock has two values.

const missed = "T counts after its revocation returned"

// vData is what a server holds: T's revocation, the revision, and the nonce.
type vData struct {
	revoked  bool
	revision uint8
	nonce    mNonce
}

type vServer struct {
	primary bool
	repl    uint8
	vData
}

type vGateway struct {
	known    bool // it has reached the server
	sure     bool // its belief is verified
	repl     uint8
	nonce    mNonce
	revision uint8
	mark     bool // T is before it
	revoked  bool // it knows T's revocation

	stage   uint8 // of its pipeline
	tail    vTail
	fetched uint8 // the revision that the pipeline fetched up to
	first   bool  // SET was executed after the revocation returned
}

// vTail is the reply of a pipeline's tail.
type vTail struct {
	primary  bool
	repl     uint8
	nonce    mNonce
	revision uint8
}

type vState struct {
	a, b     vServer
	gateways [2]vGateway
	minted   bool
	due      bool // T existed when its revocation began
	returned bool
	spent    bool // T was accepted
	rare     uint8
}

// The stages of a pipeline of g2, and of g1, whose first command is the
// revocation.
const (
	vIdle uint8 = iota
	vBegun
	vExecuted // the first command, not the tail
	vAnswered
	vFetch   // the revocations must be fetched
	vFetched // they were, without that pipeline's tail
	vFetchedAll
)

type vWorld struct {
	adopt   func(b belief, a answer) (belief, bool)
	judge   func(b belief, a answer, own clock) (belief, trust)
	refetch func(b belief, a answer, revision int64, own clock) (belief, trust)
	rare    uint8 // the most rare events
}

func (v *vState) now() clock {
	if v.minted {
		return base + 10_000
	}
	return base
}

func (g *vGateway) belief() belief {
	b := belief{revision: int64(g.revision), identity: identity{replID: replIDs[g.repl]}, nonce: g.nonce.text()}
	if g.known {
		b.runID = runIDs[1]
	}
	if g.sure {
		b.conn = 1
	}
	return b
}

func (g *vGateway) believe(b belief) {
	g.sure, g.repl, g.nonce, g.revision = b.conn != 0, numberOf(b.replID), nonceOf(b.nonce), uint8(b.revision)
}

func (t vTail) answer(now clock) answer {
	return answer{
		conn: 1, primary: t.primary, identity: identity{runIDs[1], replIDs[t.repl]},
		nonce: t.nonce.text(), revision: int64(t.revision), time: now,
	}
}

func (s vServer) tail() vTail { return vTail{s.primary, s.repl, s.nonce, s.revision} }

// fresh returns a number that no nonce and no history has.
func (v *vState) fresh() uint8 {
	used := uint64(1)
	use := func(n mNonce, repl uint8) { used |= 1<<n.k | 1<<repl }
	use(v.a.nonce, v.a.repl)
	use(v.b.nonce, v.b.repl)
	for _, g := range v.gateways {
		use(g.nonce, g.repl)
		use(g.tail.nonce, g.tail.repl)
	}
	for n := uint8(1); ; n++ {
		if used>>n&1 == 0 {
			return n
		}
	}
}

// verify makes a gateway verify A, without another event in between.
func (w *vWorld) verify(v *vState, g *vGateway) {
	b := g.belief()
	if g.sure {
		b = b.lose()
	}
	for first := v.a.tail().answer(v.now()); ; {
		now := v.a.tail().answer(v.now())
		switch b.next(first, now) {
		case stepRefuse:
			return
		case stepWrite:
			v.a.nonce = mNonce{v.fresh(), 1, v.a.repl}
		case stepAdopt:
			b, other := w.adopt(b, now)
			if other {
				mark := raise(base-clock(far), base-clock(far), v.now(), now.time)
				g.mark = v.minted && (&mToken{base + 10_000, 5000}).IssuedBefore(mark.time())
			}
			g.known = true
			g.believe(b)
			return
		}
	}
}

const (
	vopMint uint8 = iota
	vopVerify
	vopBegin
	vopFirst
	vopTail
	vopReply
	vopFlush
	vopSync
	vopDemote
	vopBack
	vopSync2
	vopOther
	vopLearn
	vopBreak
)

func vName(m move) string {
	g := fmt.Sprintf("g%d", m.a+1)
	return [...]string{
		"T is minted", g + " verifies A", g + " begins a pipeline", "its first command is executed for " + g,
		"its tail is executed for " + g, g + " has the reply", "FLUSHALL on A", "B syncs",
		"B becomes a primary, and A its replica", "A becomes a primary", "A syncs", "somebody else is revoked", g + " fetches what is revoked",
		g + " loses its connection as it fetches",
	}[m.op]
}

func (w *vWorld) next(v vState, emit func(m move, t vState, bad string)) {
	do := func(op, a uint8, event func(v *vState) string) {
		t := v
		bad := event(&t)
		emit(move{op, a, 0}, t, bad)
	}
	if !v.minted {
		do(vopMint, 0, func(v *vState) string { v.minted = true; return "" })
	}
	for i := range uint8(2) {
		w.gatewayMoves(&v, i, do)
	}
	if v.rare == w.rare {
		return
	}
	rare := func(op uint8, event func(v *vState)) {
		do(op, 0, func(v *vState) string { v.rare++; event(v); return "" })
	}
	rare(vopFlush, func(v *vState) { v.a.vData = vData{} })
	if v.a.primary && v.a.nonce.k != 0 {
		rare(vopOther, func(v *vState) { v.a.revision++ })
	}
	if v.a.primary && !v.b.primary {
		rare(vopSync, func(v *vState) { v.b.vData, v.b.repl = v.a.vData, v.a.repl })
		rare(vopDemote, func(v *vState) { v.b.primary, v.b.repl, v.a.primary = true, v.fresh(), false })
	}
	if !v.a.primary {
		rare(vopSync2, func(v *vState) { v.a.vData, v.a.repl = v.b.vData, v.b.repl })
		rare(vopBack, func(v *vState) { v.a.primary, v.a.repl, v.b.primary = true, v.fresh(), false })
	}
}

func (w *vWorld) gatewayMoves(v *vState, i uint8, do func(op, a uint8, event func(v *vState) string)) {
	g := &v.gateways[i]
	switch {
	case !g.sure, g.nonce != v.a.nonce: // its extension has noticed
		do(vopVerify, i, func(v *vState) string { w.verify(v, &v.gateways[i]); return "" })
	case g.stage == vIdle && (i == 0 && !v.returned || i == 1 && v.minted && !v.spent):
		do(vopBegin, i, func(v *vState) string {
			g := &v.gateways[i]
			g.stage, g.first = vBegun, v.returned
			if i == 0 {
				v.due = v.minted
			}
			return ""
		})
	}
	if i == 1 && g.stage == vIdle && v.a.primary && g.sure && g.nonce == v.a.nonce && g.repl == v.a.repl && g.revision != v.a.revision {
		do(vopLearn, i, func(v *vState) string {
			g := &v.gateways[i]
			g.revision, g.revoked = v.a.revision, g.revoked || v.a.revoked
			return ""
		})
	}
	if g.stage == vFetched {
		do(vopBreak, i, func(v *vState) string {
			g := &v.gateways[i]
			g.believe(g.belief().unsure())
			g.stage, g.fetched = vIdle, 0
			return ""
		})
	}
	switch g.stage {
	case vBegun, vFetch:
		do(vopFirst, i, func(v *vState) string { v.first(i); return "" })
	case vExecuted, vFetched:
		do(vopTail, i, func(v *vState) string {
			g := &v.gateways[i]
			g.stage++
			g.tail = v.a.tail()
			return ""
		})
	case vAnswered, vFetchedAll:
		do(vopReply, i, func(v *vState) string { return w.reply(v, i) })
	}
}

// first executes the first command of a pipeline: g1's revocation, g2's SET, or
// a fetch of revocations.
func (v *vState) first(i uint8) {
	g := &v.gateways[i]
	g.stage++
	switch {
	case g.stage == vFetched:
		g.fetched, g.revoked = v.a.revision, g.revoked || v.a.revoked
	case i == 0 && v.a.primary && v.a.nonce == g.nonce && !v.a.revoked:
		v.a.revoked = true
		v.a.revision++
	}
}

// reply makes a gateway judge its replies.
func (w *vWorld) reply(v *vState, i uint8) string {
	g := &v.gateways[i]
	b, trust := g.belief(), verifyAnew
	if a := g.tail.answer(v.now()); g.stage == vFetchedAll {
		b, trust = w.refetch(b, a, int64(g.fetched), v.now())
	} else {
		b, trust = w.judge(b, a, v.now())
	}
	g.believe(b)
	g.fetched = 0
	switch {
	case trust == fetchFirst && g.stage == vAnswered:
		g.stage = vFetch
		return ""
	case trust != believe:
		g.stage, g.tail = vIdle, vTail{}
		return ""
	}
	g.stage, g.tail = vIdle, vTail{}
	if i == 0 {
		v.returned = v.due // unless it came before T was minted
		return ""
	}
	token := &mToken{base + 10_000, 5000}
	mark := base - 10_000
	if g.mark {
		mark = v.now()
	}
	if g.revoked || judgeSpend(token, mark, v.now(), v.now()) != counts {
		return ""
	}
	v.spent = true
	if g.first {
		return missed
	}
	return ""
}

func (w vWorld) explore() *search[vState] {
	start := vState{a: vServer{primary: true, repl: 1}, b: vServer{repl: 1}}
	return (&search[vState]{start: start, next: w.next, name: vName, stop: missed}).run()
}

// TestModelOfRevocations explores rule 7, and faults of it.
func TestModelOfRevocations(t *testing.T) {
	w := vWorld{belief.adopt, belief.judge, belief.caughtUp, 2}
	if soak() {
		w.rare = 3
	}
	x := w.explore()
	t.Logf("revocations: %d states, all that there are", x.states)
	require.Empty(t, x.traces)

	w.rare = 1
	for name, fault := range map[string]func(w *vWorld){
		"the revision is not asked for": func(w *vWorld) {
			w.judge = func(b belief, a answer, own clock) (belief, trust) {
				a.revision = b.revision
				return b.judge(a, own)
			}
		},
		"the pipeline that fetches is believed": func(w *vWorld) {
			w.refetch = func(b belief, _ answer, _ int64, _ clock) (belief, trust) { return b, believe }
		},
		"with a new pair, all revocations are known": func(w *vWorld) {
			w.adopt = func(b belief, a answer) (belief, bool) {
				next, other := b.adopt(a)
				next.revision = a.revision
				return next, other
			}
		},
	} {
		w := w
		fault(&w)
		x := w.explore()
		t.Log(name)
		x.log(t, missed)
		require.NotEmpty(t, x.traces, name)
	}
}
