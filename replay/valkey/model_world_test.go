//go:build !race

package valkey

import (
	"cmp"
	"fmt"
	"strings"
	"time"
)

// What may go wrong with a token in a world.
const (
	sameTwice   = "twice at one gateway (I1)"
	twice       = "twice, though no server came back too soon (I2)"
	afterVerify = "twice, the second SET where the winner had verified (I3)"
	splitBrain  = "twice in a split brain"
	tooSoon     = "twice, as a server came back too soon"
)

// Bounds of the worlds.
const (
	maxServers  = 3
	maxGateways = 3
	far         = 100                      // ticks: past or future for ever
	base        = clock(1_800_000_000_000) // now, less phase
)

// mNonce is a nonce: its random bytes, and the identity that it was written to.
type mNonce struct{ k, run, repl uint8 }

// mData is a database.
type mData struct {
	token uint8 // 0: unset; tokenOther: by an ended call; tokenOf + g: by g
	nonce mNonce
	ttl   uint8 // of the nonce, in ticks
	age   uint8 // ticks since it answered; ends at away
	last  bool  // it answered last of all
	mark  int8  // old rules: of the nonce, which is an epoch
}

const (
	tokenOther uint8 = 1
	tokenOf    uint8 = 2
)

type mServer struct {
	primary   bool
	run, repl uint8
	of        uint8 // 1 + the server that it replicates
	off       int8  // ticks that its clock is ahead
	evicted   bool
	data      [2]mData
}

// mPipe is a pipeline with the token's SET, and its replies.
type mPipe struct {
	stage   uint8
	conn    uint8
	server  uint8
	reply   uint8
	primary bool
	repl    uint8
	nonce   mNonce
	time    int8
	covered bool // SET was executed where a winner had verified
}

// The stages of a pipeline. Each means that everything before it was executed.
const (
	pipeNone uint8 = iota
	pipeSent
	pipeHalf // SET, or the tail in the mutant that sends it first
	pipeDone
)

// The replies to SET NX GET.
const (
	replySpent uint8 = 1 + iota
	replyNull
	replyOwn
	replyError
)

type mGateway struct {
	off    int8  // ticks that its clock is ahead
	server uint8 // 1 + where its connection leads; 0: nowhere

	// Its belief and mark.
	conn       uint8 // connNow, or connBefore
	run, repl  uint8
	nonce      mNonce
	doubted    bool
	past, mark int8

	asked      uint8 // progress of verifying, on this connection
	first, now mNonce

	calling bool
	pipe    mPipe
	won     bool
	polled  uint8 // of evictions: nothing, pollClean or pollEvicted

	// Old rules: the mark of the epoch that it knows, the epoch that it
	// left, and for how many ticks it has not verified.
	knownMark int8
	left, age uint8
}

const (
	connNow    uint8 = 1
	connBefore uint8 = 2

	askNothing uint8 = 0
	askWrite   uint8 = 1 // the nonce now must be replaced
	askAgain   uint8 = 2 // it was written: ask the server again

	pollClean   uint8 = 1
	pollEvicted uint8 = 2
)

// mState is the state of a world.
type mState struct {
	servers  [maxServers]mServer
	gateways [maxGateways]mGateway
	late     struct { // a replacement of a nonce under way
		server   uint8 // 1 + the server
		from, to mNonce
	}
	minted   bool
	issued   int8  // in ticks after now, by a right clock
	phase    int8  // of now in its second, in ticks
	wins     uint8 // ends at 2
	verified uint8 // bits: servers where a winner verified after it won
	over     bool  // no gateway accepts the token any more
	rare     uint8 // how many rare events there were
}

// rules are the functions of rules.go, or faulty ones.
type rules struct {
	next   func(b belief, first, now answer) step
	adopt  func(b belief, a answer) (belief, bool)
	judge  func(b belief, a answer, own clock) (belief, trust)
	raise  func(mark, past, own, server clock) clock
	entry  func(t issued, mark, own, server clock) ruling
	ruling func(t issued, mark, own, server clock) ruling
	first  func(reply string, null bool, own string) (fresh, ok bool)

	tailFirst bool // the tail is read before the SET
	blind     bool // an extension does not compare
	same      bool // another attempt reuses the random bytes
	undoubted bool // an eviction is not doubted
}

func theRules() rules {
	return rules{
		next: belief.next, adopt: belief.adopt, judge: belief.judge,
		raise: raise, entry: judgeSpend, ruling: judgeSpend, first: first,
	}
}

// world says who is there and what can happen.
type world struct {
	rules
	old      bool // those of model_old_test.go instead
	replicas bool // old rules: with WAIT for one replica

	servers, gateways int
	leads             [maxGateways]uint8 // bits: the servers it may reach
	issuers           []int8             // ticks the issuer may be ahead
	gatewayOff        [maxGateways]int8
	serverOff         [maxServers]int8
	follows           [maxServers]uint8 // 1 + what it first replicates
	unit, skew        clock             // tick and ClockSkew in ms; 0: 5 s
	d                 uint8             // D in ticks; 0: 2
	lean              bool              // without what the rules refuse
	maxRare           uint8             // of what follows; 0: no limit

	apart        bool  // no server comes back too soon
	split        bool  // SET and tail are executed one after the other
	slow         uint8 // bits: gateways whose replies come late
	lateSend     bool  // and whose pipelines are executed late
	races        bool  // among gateways that verify
	late         bool  // with races: replacements of a nonce arrive late
	misled       bool  // extensions arrive at another server
	restart      bool  // servers, with all data, no token or no data
	flush, swap  bool
	roles        bool // servers change roles over kept connections
	attach       bool // a first replica attaches: another replication ID
	restartGate  bool // gateways restart
	onlyRestart  bool // and are led elsewhere only then
	stepGate     int8 // gateways' clocks step by this and back
	stepServer   int8
	stays        uint8 // ticks that an abandoned server does; 0: enough
	twins        bool  // g1 and g2 are two pipelines of one gateway
	evict        bool  // servers evict the token
	polledAtOnce bool  // and all gateways notice before they spend

	token mToken
}

// mToken is what the rules see of the token.
type mToken struct{ issuedAt, skew clock }

func (t *mToken) IssuedBefore(at time.Time) bool {
	return t.issuedAt <= clock(at.Unix()*1000)+t.skew
}

func (w *world) tick() clock {
	if w.unit == 0 {
		return 5000
	}
	return w.unit
}

// life is D in ticks.
func (w *world) life() uint8 { return cmp.Or(w.d, 2) }

// clock returns the reading of a clock that is so many ticks ahead; ticks is
// the inverse.
func (w *world) clock(s *mState, ticks int8) clock {
	return base + clock(s.phase+ticks)*w.tick()
}

func (w *world) ticks(s *mState, c clock) int8 {
	return int8(max(-far, min(far, (c-base)/w.tick()-clock(s.phase))))
}

// issued returns the token of s.
func (w *world) issued(s *mState) *mToken {
	w.token = mToken{issuedAt: w.clock(s, s.issued), skew: 5000}
	if w.skew != 0 {
		w.token.skew = w.skew
	}
	return &w.token
}

// Random values have a name of four bytes, by number. Zero is none.
var (
	runIDs   = namesOf("run")
	replIDs  = namesOf("rep")
	nonces   = namesOf("non")
	textsOf  = nonceTexts()
	ownValue = [2]string{"a", "b"}
)

const (
	digits = "0123456789abcdef"
	gone   = 15 // names all that can no longer equal anything
)

func namesOf(kind string) (names [len(digits)]string) {
	for i := 1; i < len(names); i++ {
		names[i] = kind + digits[i:i+1]
	}
	return names
}

func nonceTexts() (texts [len(digits)][len(digits)][len(digits)]string) {
	for k := 1; k < len(texts); k++ {
		for run := range texts[k] {
			for repl := range texts[k][run] {
				texts[k][run][repl] = identity{runIDs[run], replIDs[repl]}.newNonce(nonces[k])
			}
		}
	}
	return texts
}

func (n mNonce) text() string { return textsOf[n.k][n.run][n.repl] }

// numberOf returns the number of a name of four bytes.
func numberOf(name string) uint8 {
	if name == "" {
		return 0
	}
	return uint8(strings.IndexByte(digits, name[3]))
}

func nonceOf(text string) mNonce {
	if text == "" {
		return mNonce{}
	}
	return mNonce{numberOf(text[:4]), numberOf(text[5:9]), numberOf(text[10:])}
}

func (w *world) belief(s *mState, g *mGateway) belief {
	return belief{
		conn: uint64(g.conn), identity: identity{runIDs[g.run], replIDs[g.repl]},
		nonce: g.nonce.text(), doubted: g.doubted, past: w.clock(s, g.past),
	}
}

func (w *world) believe(s *mState, g *mGateway, b belief) {
	g.conn, g.run, g.repl = uint8(b.conn), numberOf(b.runID), numberOf(b.replID)
	g.nonce, g.doubted, g.past = nonceOf(b.nonce), b.doubted, w.ticks(s, b.past)
}

// The operations. a is a gateway or a server, as the name says.
const (
	opTick uint8 = iota
	opMint
	opConnect
	opAsk
	opWrite
	opBegin
	opSend
	opExecute
	opDeliver
	opGiveUp
	opExtend
	opRestartGateway
	opLateWrite
	opLate
	opMisled
	opRestartAll
	opRestartNonce
	opRestartNone
	opFlush
	opSwap
	opDemote
	opSync
	opPromote
	opAttach
	opStepGateway
	opStepServer
	opEvict
	opPoll
)

func moveName(m move) string {
	g, s, to := fmt.Sprintf("g%d", m.a+1), string(rune('A'+m.a)), string(rune('A'+m.b))
	switch m.op {
	case opTick:
		return "a tick"
	case opMint:
		return fmt.Sprintf("T is minted, its clock off by %d ticks", int8(m.a))
	case opConnect:
		return g + " connects to " + to
	case opAsk:
		return g + " asks"
	case opWrite:
		return g + " writes a nonce"
	case opBegin:
		return "T is shown to " + g
	case opSend:
		return g + " sends T"
	case opExecute:
		return g + "'s commands are executed"
	case opDeliver:
		return g + " has the reply"
	case opGiveUp:
		return g + " gives up"
	case opExtend:
		return g + " extends its nonce"
	case opRestartGateway:
		return g + " restarts"
	case opLateWrite:
		return g + "'s nonce is under way and its connection lost"
	case opLate:
		return "the late nonce arrives"
	case opMisled:
		return g + "'s extension arrives at " + to
	case opRestartAll:
		return s + " restarts with its data"
	case opRestartNonce:
		return s + " restarts with older data"
	case opRestartNone:
		return s + " restarts without data"
	case opFlush:
		return "FLUSHALL on " + s
	case opSwap:
		return "SWAPDB on " + s
	case opDemote:
		return s + " becomes a replica of " + to
	case opSync:
		return s + " syncs"
	case opPromote:
		return s + " becomes a primary"
	case opAttach:
		return "a first replica attaches to " + s
	case opStepGateway:
		return fmt.Sprintf("the clock of %s steps by %d", g, int8(m.b))
	case opStepServer:
		return fmt.Sprintf("the clock of %s steps by %d", s, int8(m.b))
	case opEvict:
		return s + " evicts T"
	}
	return g + " reads the policy"
}
