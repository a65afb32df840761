//go:build !race

package valkey

import (
	"cmp"
	"slices"
)

// next emits all states that one event leads to.
func (w *world) next(s mState, emit func(m move, t mState, bad string)) {
	if s.over {
		return
	}
	do := func(op, a, b uint8, event func(s *mState) (ok bool, bad string)) {
		t := s
		if ok, bad := event(&t); ok {
			if w.twins && op >= opConnect && op <= opRestartGateway {
				t.alike(a)
			}
			w.settle(&t)
			emit(move{op, a, b}, t, bad)
		}
	}
	always := func(event func(s *mState)) func(s *mState) (bool, string) {
		return func(s *mState) (bool, string) { event(s); return true, "" }
	}
	do(opTick, 0, 0, always(w.pass))
	if !s.minted {
		for _, ahead := range w.issuers {
			do(opMint, uint8(ahead), 0, always(func(s *mState) { w.mint(s, ahead) }))
		}
	}
	for i := range uint8(w.gateways) {
		w.gatewayMoves(&s, i, do)
	}
	if w.late && s.late.server != 0 {
		do(opLate, 0, 0, always(func(s *mState) {
			d := &s.servers[s.late.server-1]
			w.replace(d, s.late.from, s.late.to, 0)
			s.late = mState{}.late
		}))
	}
	if w.maxRare == 0 || s.rare < w.maxRare {
		w.rareMoves(&s, do)
	}
}

type event = func(s *mState) (ok bool, bad string)

// doer emits what an event leads to.
type doer = func(op, a, b uint8, e event)

func (w *world) gatewayMoves(s *mState, i uint8, do doer) {
	for to := range uint8(w.servers) {
		w.connectMoves(s, i, to, do)
	}
	w.verifyMoves(&s.gateways[i], i, do)
	w.nonceMoves(s, i, do)
	w.callMoves(s, i, do)
}

// connectMoves leads the address of a gateway to a server. A pipeline that is
// under way may be lost with the connection.
func (w *world) connectMoves(s *mState, i, to uint8, do doer) {
	g := &s.gateways[i]
	same := g.server == 1+to && g.pipe.stage == pipeNone && g.asked == askNothing
	if w.leads[i]>>to&1 == 0 || w.onlyRestart && g.server != 0 || same {
		return
	}
	connect := func(lost bool) event {
		return func(s *mState) (bool, string) {
			w.hangUp(s, i)
			s.gateways[i].server = 1 + to
			if lost {
				s.gateways[i].pipe = mPipe{}
			}
			return w.races || w.verify(s, i), ""
		}
	}
	do(opConnect, i, to, connect(false))
	if g.pipe.stage != pipeNone {
		do(opConnect, i, to, connect(true))
	}
}

func (w *world) verifyMoves(g *mGateway, i uint8, do doer) {
	switch {
	case g.server == 0 || g.conn == connNow && !(w.old && g.age > 0):
	case !w.races:
		do(opAsk, i, 0, func(s *mState) (bool, string) { return w.verify(s, i), "" })
	case g.asked != askWrite:
		do(opAsk, i, 0, func(s *mState) (bool, string) { return w.ask(s, i), "" })
	default:
		do(opWrite, i, 0, func(s *mState) (bool, string) { return w.write(s, i), "" })
		do(opLateWrite, i, 0, func(s *mState) (bool, string) { return w.writeLate(s, i), "" })
	}
}

// nonceMoves is what a gateway does at each nonceBeat.
func (w *world) nonceMoves(s *mState, i uint8, do doer) {
	g := &s.gateways[i]
	if g.conn != connNow {
		return
	}
	do(opExtend, i, 0, func(s *mState) (bool, string) { return w.extend(s, i), "" })
	for to := range uint8(w.servers) {
		do(opMisled, i, to, func(s *mState) (bool, string) { return w.mislead(s, i, to), "" })
	}
	if w.evict && !w.pollFits(s, g) {
		do(opPoll, i, 0, func(s *mState) (bool, string) {
			g := &s.gateways[i]
			g.polled = pollEvicted
			if !w.undoubted {
				w.believe(s, g, w.belief(s, g).doubt())
			}
			return true, ""
		})
	}
}

// mislead makes an extension arrive at the wrong server. One that compares does
// nothing there.
func (w *world) mislead(s *mState, i, to uint8) bool {
	d := &s.servers[to].data[0]
	if !w.misled || !w.blind || d.nonce.k == 0 || d.nonce == s.gateways[i].nonce {
		return false
	}
	d.ttl = w.life()
	return true
}

func (w *world) callMoves(s *mState, i uint8, do doer) {
	g := &s.gateways[i]
	switch {
	case g.calling:
		do(opGiveUp, i, 0, func(s *mState) (bool, string) { s.end(i); return true, "" })
		if g.pipe.stage == pipeNone && w.maySend(s, g) {
			do(opSend, i, 0, func(s *mState) (bool, string) { return w.send(s, i) })
		}
	case s.minted && w.maySend(s, g):
		do(opBegin, i, 0, func(s *mState) (bool, string) { return w.begin(s, i) })
	}
	switch g.pipe.stage {
	case pipeSent, pipeHalf:
		do(opExecute, i, 0, func(s *mState) (bool, string) { return w.execute(s, i), "" })
	case pipeDone:
		do(opDeliver, i, 0, func(s *mState) (bool, string) { return true, w.deliver(s, i) })
	}
}

// begin begins a call, if the token may be sent.
func (w *world) begin(s *mState, i uint8) (ok bool, bad string) {
	g := &s.gateways[i]
	own := w.clock(s, g.off)
	if w.entry(w.issued(s), w.clock(s, g.mark), own, own) != counts {
		return false, ""
	}
	g.calling = true
	return w.send(s, i)
}

func (w *world) maySend(s *mState, g *mGateway) bool {
	return g.conn == connNow && (!w.old || g.age == 0) && w.pollFits(s, g)
}

// send sends the pipeline of a call. If g is not slow, it is executed and
// answered at once.
func (w *world) send(s *mState, i uint8) (ok bool, bad string) {
	g := &s.gateways[i]
	g.pipe = mPipe{stage: pipeSent, conn: connNow, server: g.server - 1}
	if w.slow>>i&1 == 1 {
		return w.lateSend || w.execute(s, i), ""
	}
	for g.pipe.stage != pipeDone {
		if !w.execute(s, i) {
			return false, ""
		}
	}
	return true, w.deliver(s, i)
}

// pollFits reports whether g may send in a world where gateways notice
// evictions at once.
func (w *world) pollFits(s *mState, g *mGateway) bool {
	return !w.evict || !w.polledAtOnce && g.polled != 0 || g.server == 0 ||
		(g.polled == pollEvicted) == s.servers[g.server-1].evicted
}

func (w *world) rareMoves(s *mState, do doer) {
	rare := func(op, a, b uint8, event func(s *mState)) {
		do(op, a, b, func(s *mState) (bool, string) {
			if w.maxRare > 0 {
				s.rare++
			}
			event(s)
			return true, ""
		})
	}
	for i := range uint8(w.gateways) {
		if w.restartGate && s.gateways[i] != (mGateway{off: s.gateways[i].off, mark: -far, past: -far}) {
			rare(opRestartGateway, i, 0, func(s *mState) {
				s.end(i)
				s.gateways[i] = mGateway{off: s.gateways[i].off, mark: -far, past: -far}
			})
		}
		if w.stepGate > 0 {
			for _, by := range []int8{-1, 1} {
				if off := s.gateways[i].off + by; max(off-w.gatewayOff[i], w.gatewayOff[i]-off) <= w.stepGate {
					rare(opStepGateway, i, uint8(by), func(s *mState) { s.gateways[i].off = off })
				}
			}
		}
	}
	for i := range uint8(w.servers) {
		w.serverMoves(s, i, rare)
	}
}

func (w *world) serverMoves(s *mState, i uint8, rare func(op, a, b uint8, event func(s *mState))) {
	v := &s.servers[i]
	if w.restart {
		rare(opRestartAll, i, 0, func(s *mState) { w.restartServer(s, i) })
		rare(opRestartNonce, i, 0, func(s *mState) { s.servers[i].data[0].token = 0; w.restartServer(s, i) })
		rare(opRestartNone, i, 0, func(s *mState) { s.servers[i].data[0].clear(); w.restartServer(s, i) })
	}
	if w.flush {
		rare(opFlush, i, 0, func(s *mState) { s.servers[i].data[0].clear() })
	}
	if w.swap {
		rare(opSwap, i, 0, func(s *mState) {
			d := &s.servers[i].data
			d[0], d[1] = d[1], d[0]
		})
	}
	if w.roles {
		for to := range uint8(w.servers) {
			if to != i && v.of != 1+to && (s.servers[to].of != 1+i || !v.primary) {
				rare(opDemote, i, to, func(s *mState) { s.servers[i].primary, s.servers[i].of = false, 1+to })
			}
		}
		if v.of != 0 {
			rare(opSync, i, 0, func(s *mState) { s.sync(i, v.of-1) })
			rare(opPromote, i, 0, func(s *mState) {
				v := &s.servers[i]
				v.primary, v.of, v.repl = true, 0, s.freshRepl()
			})
		}
	}
	if w.attach && v.primary {
		rare(opAttach, i, 0, func(s *mState) { s.servers[i].repl = s.freshRepl() })
	}
	if w.stepServer > 0 {
		for _, by := range []int8{-1, 1} {
			if off := v.off + by; max(off-w.serverOff[i], w.serverOff[i]-off) <= w.stepServer {
				rare(opStepServer, i, uint8(by), func(s *mState) {
					s.servers[i].off = off
					for j := range s.servers[i].data {
						s.servers[i].data[j].spendTTL(by)
					}
				})
			}
		}
	}
	if w.evict && !v.evicted {
		rare(opEvict, i, 0, func(s *mState) { s.servers[i].evicted, s.servers[i].data[0].token = true, 0 })
	}
}

// pass is a tick of time.
func (w *world) pass(s *mState) {
	if perSecond := int8(1000 / w.tick()); perSecond > 1 {
		s.phase = (s.phase + 1) % perSecond
	}
	s.issued--
	for i := range s.servers {
		for j := range s.servers[i].data {
			d := &s.servers[i].data[j]
			d.spendTTL(1)
			d.mark--
			d.age = min(d.age+1, w.away())
		}
	}
	for i := range s.gateways[:w.gateways] {
		g := &s.gateways[i]
		g.mark, g.past, g.knownMark = earlier(g.mark), earlier(g.past), earlier(g.knownMark)
		if g.pipe.stage == pipeDone || g.pipe.stage == pipeHalf && w.tailFirst {
			g.pipe.time = earlier(g.pipe.time)
		}
		g.age = min(g.age+1, 3)
	}
}

func earlier(t int8) int8 {
	if t == far || t == -far {
		return t
	}
	return t - 1
}

// away returns for how many ticks a server must stay away after gateways left
// it.
func (w *world) away() uint8 {
	return cmp.Or(w.stays, w.life()+uint8(2*w.stepServer))
}

func (d *mData) spendTTL(ticks int8) {
	if d.ttl == far {
		return // under the old rules
	}
	if int8(d.ttl) <= ticks {
		d.nonce, d.ttl = mNonce{}, 0
	}
	if d.nonce.k != 0 {
		d.ttl = uint8(int8(d.ttl) - ticks)
	}
}

func (d *mData) clear() { d.token, d.nonce, d.ttl, d.mark = 0, mNonce{}, 0, 0 }

func (w *world) mint(s *mState, ahead int8) {
	s.minted = true
	at := clock(s.phase+ahead) * w.tick()
	at -= (at%1000 + 1000) % 1000
	s.issued = int8(at/w.tick()) - s.phase
}

// answered records that a server answered a gateway that relies on it. It
// reports whether that may happen, in a world where no server comes back too
// soon.
func (w *world) answered(s *mState, server uint8) bool {
	d := &s.servers[server].data[0]
	if !d.last {
		if w.apart && d.age < w.away() {
			return false
		}
		for i := range s.servers {
			for j := range s.servers[i].data {
				s.servers[i].data[j].last = false
			}
		}
		d.last = true
	}
	d.age = 0
	return true
}

func (s *mState) sync(i, from uint8) {
	d, f := &s.servers[i].data[0], s.servers[from].data[0]
	d.token, d.nonce, d.ttl, d.mark = f.token, f.nonce, f.ttl, f.mark
	s.servers[i].repl = s.servers[from].repl
}

// hangUp makes a gateway leave its connection. What is under way on it may
// still arrive.
func (w *world) hangUp(s *mState, i uint8) {
	s.gateways[i].hangUp()
	if w.twins {
		s.gateways[1-i].hangUp()
	}
}

func (g *mGateway) hangUp() {
	if g.conn == connNow {
		g.conn = connBefore
		if g.pipe.conn == connBefore {
			g.pipe = mPipe{}
		}
	}
	if g.pipe.conn == connNow {
		g.pipe.conn = connBefore
	}
	g.server, g.asked, g.first, g.now = 0, askNothing, mNonce{}, mNonce{}
}

// alike makes two pipelines of one gateway share everything but their calls. i
// is the one that has acted.
func (s *mState) alike(i uint8) {
	g, twin := s.gateways[i], &s.gateways[1-i]
	g.calling, g.pipe = twin.calling, twin.pipe
	*twin = g
}

// restartServer ends a process and its connections, and begins another.
func (w *world) restartServer(s *mState, i uint8) {
	for j := range s.gateways {
		g := &s.gateways[j]
		if g.pipe.server == i && g.pipe.stage != pipeDone {
			g.pipe = mPipe{}
		}
		if g.server == 1+i {
			w.hangUp(s, uint8(j))
		}
	}
	if s.late.server == 1+i {
		s.late = mState{}.late
	}
	v := &s.servers[i]
	v.primary, v.of = true, 0
	v.run, v.repl = s.freshRun(), s.freshRepl()
}

// end ends a call.
func (s *mState) end(i uint8) {
	g := &s.gateways[i]
	g.calling, g.pipe = false, mPipe{}
	for j := range s.servers {
		for k := range s.servers[j].data {
			if d := &s.servers[j].data[k]; d.token == tokenOf+i {
				d.token = tokenOther
			}
		}
	}
}

// ask makes a gateway ask the server about itself, and act on the answer by the
// rules.
func (w *world) ask(s *mState, i uint8) bool {
	g := &s.gateways[i]
	v := &s.servers[g.server-1]
	d := &v.data[0]
	now := answer{
		conn: uint64(connNow), primary: v.primary, identity: identity{runIDs[v.run], replIDs[v.repl]},
		nonce: d.nonce.text(), time: w.clock(s, v.off),
	}
	if g.asked == askNothing {
		g.first = d.nonce
	}
	g.now = d.nonce
	if w.old {
		return w.oldAsk(s, i, now)
	}
	b := w.belief(s, g)
	switch w.rules.next(b, answer{nonce: g.first.text()}, now) {
	case stepRefuse:
		w.hangUp(s, i)
	case stepWrite:
		g.asked = askWrite
	case stepAdopt:
		b, other := w.adopt(b, now)
		if other {
			g.mark = w.ticks(s, w.raise(w.clock(s, g.mark), b.past, w.clock(s, g.off), now.time))
		}
		w.believe(s, g, b)
		return w.adopted(s, i)
	}
	return true
}

// verify is a verification without another event in between.
func (w *world) verify(s *mState, i uint8) bool {
	g := &s.gateways[i]
	for g.server != 0 {
		if !w.ask(s, i) {
			return false
		}
		if g.asked != askWrite {
			break
		}
		if !w.write(s, i) {
			return false
		}
	}
	return true
}

// adopted ends a verification.
func (w *world) adopted(s *mState, i uint8) bool {
	g := &s.gateways[i]
	v := &s.servers[g.server-1]
	g.conn = connNow
	g.asked, g.first, g.now = askNothing, mNonce{}, mNonce{}
	if w.evict {
		g.polled = pollClean
		if v.evicted {
			g.polled = pollEvicted
		}
	}
	if g.won {
		s.verified |= 1 << (g.server - 1)
	}
	return w.answered(s, g.server-1)
}

// replace is what the script does.
func (w *world) replace(v *mServer, from, to mNonce, mark int8) {
	if d := &v.data[0]; v.primary && d.nonce == from {
		d.nonce, d.ttl, d.mark = to, w.life(), mark
		if w.old {
			d.ttl = far
		}
	}
}

func (w *world) write(s *mState, i uint8) bool {
	g := &s.gateways[i]
	v := &s.servers[g.server-1]
	to := mNonce{s.freshNonce(), v.run, v.repl}
	if w.same && s.late.server == g.server {
		to.k = s.late.to.k
	}
	var mark int8
	if w.old {
		mark = w.oldMark(s, i)
	}
	w.replace(v, g.now, to, mark)
	g.asked = askAgain
	return w.answered(s, g.server-1)
}

// writeLate leaves a replacement under way, and the connection.
func (w *world) writeLate(s *mState, i uint8) bool {
	if !w.late || s.late.server != 0 {
		return false
	}
	g := &s.gateways[i]
	v := &s.servers[g.server-1]
	s.late.server, s.late.from, s.late.to = g.server, g.now, mNonce{s.freshNonce(), v.run, v.repl}
	w.hangUp(s, i)
	return true
}

func (w *world) extend(s *mState, i uint8) bool {
	g := &s.gateways[i]
	d := &s.servers[g.server-1].data[0]
	switch {
	case w.old:
		return false
	case d.nonce != g.nonce && !(w.blind && d.nonce.k != 0):
		w.believe(s, g, w.belief(s, g).lose())
		return true
	case d.ttl == w.life():
		return w.answered(s, g.server-1)
	}
	d.ttl = w.life()
	return w.answered(s, g.server-1)
}

// execute executes the rest of a pipeline, or half of it.
func (w *world) execute(s *mState, i uint8) bool {
	p := &s.gateways[i].pipe
	v := &s.servers[p.server]
	set := func() {
		d := &v.data[0]
		switch {
		case !v.primary:
			p.reply = replyError
		case d.token == 0:
			p.reply, d.token = replyNull, tokenOf+i
		case d.token == tokenOf+i:
			p.reply = replyOwn
		default:
			p.reply = replySpent
		}
		p.covered = !w.apart && s.verified>>p.server&1 == 1
	}
	tail := func() {
		p.primary, p.repl, p.nonce, p.time = v.primary, v.repl, v.data[0].nonce, v.off
		if w.replicas {
			p.primary = s.confirm(p.server)
		}
	}
	steps := []func(){set, tail}
	if w.tailFirst {
		steps = []func(){tail, set}
	}
	if p.stage == pipeSent {
		steps[0]()
		p.stage = pipeHalf
		if !w.split {
			steps[1]()
			p.stage = pipeDone
		}
	} else {
		steps[1]()
		p.stage = pipeDone
	}
	return w.answered(s, p.server)
}

// confirm is WAIT for one replica.
func (s *mState) confirm(server uint8) bool {
	for i := range s.servers {
		if s.servers[i].of == 1+server {
			s.sync(uint8(i), server)
			return s.servers[server].primary
		}
	}
	return false
}

// deliver makes a gateway judge the replies of its pipeline. It returns what
// went wrong, if anything did.
func (w *world) deliver(s *mState, i uint8) (bad string) {
	g := &s.gateways[i]
	p := g.pipe
	g.pipe = mPipe{}
	own := w.clock(s, g.off)
	if w.old {
		if p.conn != g.conn || p.nonce != g.nonce || w.replicas && !p.primary {
			g.conn = 0
			return ""
		}
	} else {
		b, trust := w.judge(w.belief(s, g), answer{
			conn: uint64(p.conn), primary: p.primary, identity: identity{replID: replIDs[p.repl]},
			nonce: p.nonce.text(), time: w.clock(s, p.time),
		}, own)
		w.believe(s, g, b)
		if trust != believe {
			return ""
		}
	}
	if p.reply == replyError {
		w.hangUp(s, i)
		return ""
	}
	reply := ownValue[0]
	if p.reply == replySpent {
		reply = ownValue[1]
	}
	fresh, _ := w.first(reply, p.reply == replyNull, ownValue[0])
	fresh = fresh && w.ruling(w.issued(s), w.clock(s, g.mark), own, w.clock(s, p.time)) == counts
	s.end(i)
	if !fresh {
		return ""
	}
	switch {
	case g.won:
		bad = sameTwice
	case s.wins > 0 && p.covered:
		bad = afterVerify
	case s.wins > 0 && w.stays != 0:
		bad = tooSoon
	case s.wins > 0 && w.apart:
		bad = twice
	case s.wins > 0:
		bad = splitBrain
	}
	g.won = true
	s.wins = min(s.wins+1, 2)
	return bad
}

// settle ends what no longer matters, so that the states are finite and as few
// as possible.
func (w *world) settle(s *mState) {
	if !w.apart {
		for i := range s.servers {
			for j := range s.servers[i].data {
				s.servers[i].data[j].age, s.servers[i].data[j].last = 0, false
			}
		}
	}
	if w.old {
		return
	}
	token := w.issued(s)
	when := func(t int8) int8 {
		switch {
		case !s.minted:
			return max(t, w.oldMarks())
		case token.IssuedBefore(w.clock(s, t).time()):
			return far
		}
		return -far
	}
	hopeless := w.lean && s.minted && !w.restartGate
	for i := range s.gateways[:w.gateways] {
		g := &s.gateways[i]
		g.mark, g.past = when(g.mark), when(g.past)
		if g.mark == far || s.minted && s.issued <= w.oldToken() {
			g.past = -far // any later mark exceeds it
		}
		if w.lean && (g.mark == far || g.pipe.reply == replySpent && g.pipe.stage == pipeDone) {
			s.end(uint8(i)) // in vain, as another SET would be
		}
		hopeless = hopeless && g.mark == far
		if g.pipe.stage == pipeDone || g.pipe.stage == pipeHalf && w.tailFirst {
			g.pipe.time = when(g.pipe.time)
		}
		g.age, g.knownMark = 0, 0
	}
	s.issued = max(s.issued, w.oldToken())
	if !s.minted {
		s.issued = 0
	}
	for i := range s.servers {
		for j := range s.servers[i].data {
			s.servers[i].data[j].mark = 0
		}
	}
	if w.apart {
		s.verified = 0
	}
	if hopeless {
		*s = mState{over: true}
		return
	}
	s.rename()
	for i := range s.gateways[:w.gateways] {
		g := &s.gateways[i]
		if p := &g.pipe; w.lean && p.stage == pipeDone && (p.nonce.k == gone || p.conn != g.conn) {
			g.pipe = mPipe{} // nobody will believe it
		}
	}
}

// oldMarks returns a mark, in ticks, that is before every token yet to be
// minted.
func (w *world) oldMarks() int8 {
	return slices.Min(w.issuers) - w.slack() - 1
}

// oldToken returns when a token was issued that is before all future marks.
func (w *world) oldToken() int8 {
	behind := int8(0)
	for i := range w.gateways {
		behind = min(behind, w.gatewayOff[i]-w.stepGate)
	}
	for i := range w.servers {
		behind = min(behind, w.serverOff[i]-w.stepServer)
	}
	return behind - int8(1000/w.tick())
}

// slack is ClockSkew and what rounding to seconds adds, in ticks.
func (w *world) slack() int8 { return int8((w.issued(&mState{}).skew + 1000) / w.tick()) }

// rename numbers random values in the order of their first use. What can no
// longer equal anything gets the last number.
func (s *mState) rename() {
	var runs, repls, keys [16]uint8
	lastRun, lastRepl, lastKey := uint8(0), uint8(0), uint8(0)
	give := func(names *[16]uint8, last *uint8, n uint8) {
		if n != 0 && n != gone && names[n] == 0 {
			*last++
			names[n] = *last
		}
	}
	for i := range s.servers {
		v := &s.servers[i]
		give(&runs, &lastRun, v.run)
		give(&repls, &lastRepl, v.repl)
		give(&keys, &lastKey, v.data[0].nonce.k)
		give(&keys, &lastKey, v.data[1].nonce.k)
	}
	give(&keys, &lastKey, s.late.to.k)
	for i := range s.gateways {
		p := &s.gateways[i].pipe
		give(&repls, &lastRepl, p.repl)
		give(&keys, &lastKey, p.nonce.k)
	}
	name := func(names *[16]uint8, n uint8) uint8 {
		if n != 0 && names[n] == 0 {
			return gone
		}
		return names[n]
	}
	nonce := func(n *mNonce) {
		if n.k == 0 {
			return
		}
		*n = mNonce{name(&keys, n.k), name(&runs, n.run), name(&repls, n.repl)}
		if n.k == gone {
			*n = mNonce{gone, gone, gone}
		}
	}
	for i := range s.servers {
		v := &s.servers[i]
		v.run, v.repl = name(&runs, v.run), name(&repls, v.repl)
		nonce(&v.data[0].nonce)
		nonce(&v.data[1].nonce)
	}
	nonce(&s.late.from)
	nonce(&s.late.to)
	for i := range s.gateways {
		g := &s.gateways[i]
		g.run, g.repl, g.pipe.repl = name(&runs, g.run), name(&repls, g.repl), name(&repls, g.pipe.repl)
		for _, n := range [...]*mNonce{&g.nonce, &g.first, &g.now, &g.pipe.nonce} {
			nonce(n)
		}
	}
}

// start returns the first state.
func (w *world) start() (s mState) {
	for i := range uint8(w.servers) {
		s.servers[i] = mServer{primary: true, run: 1 + i, repl: 1 + i, off: w.serverOff[i], of: w.follows[i]}
		if w.follows[i] != 0 {
			s.servers[i].primary, s.servers[i].repl = false, w.follows[i]
		}
		for j := range s.servers[i].data {
			s.servers[i].data[j].age = w.away()
		}
	}
	for i := range w.gateways {
		s.gateways[i] = mGateway{off: w.gatewayOff[i], mark: -far, past: -far, knownMark: -far}
	}
	w.settle(&s)
	return s
}

// Random values that nothing refers to are drawn again.

func (s *mState) freshNonce() uint8 {
	return s.unused(func(n mNonce) uint8 { return n.k }, func(*mGateway) uint8 { return 0 }, func(*mServer) uint8 { return 0 })
}

func (s *mState) freshRun() uint8 {
	return s.unused(func(n mNonce) uint8 { return n.run }, func(g *mGateway) uint8 { return g.run }, func(v *mServer) uint8 { return v.run })
}

func (s *mState) freshRepl() uint8 {
	return s.unused(func(n mNonce) uint8 { return n.repl }, func(g *mGateway) uint8 { return g.repl }, func(v *mServer) uint8 { return v.repl },
		func(g *mGateway) uint8 { return g.pipe.repl })
}

func (s *mState) unused(ofNonce func(mNonce) uint8, ofGateway func(*mGateway) uint8, ofServer func(*mServer) uint8, more ...func(*mGateway) uint8) uint8 {
	used := uint64(1)
	use := func(n uint8) { used |= 1 << n }
	for i := range s.servers {
		v := &s.servers[i]
		use(ofServer(v))
		use(ofNonce(v.data[0].nonce))
		use(ofNonce(v.data[1].nonce))
	}
	for i := range s.gateways {
		g := &s.gateways[i]
		use(ofGateway(g))
		for _, f := range more {
			use(f(g))
		}
		for _, n := range [...]mNonce{g.nonce, g.first, g.now, g.pipe.nonce} {
			use(ofNonce(n))
		}
		use(g.left) // an epoch of the old rules
	}
	use(ofNonce(s.late.from))
	use(ofNonce(s.late.to))
	for n := uint8(1); n < gone; n++ {
		if used>>n&1 == 0 {
			return n
		}
	}
	panic("the model has too few names")
}
