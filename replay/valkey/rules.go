package valkey

import (
	"strings"
	"time"
)

// The rules of SPEC.md section 11 for "this server has every token that it was
// ever told of", as pure functions, numbered as there. The I/O calls them and
// decides nothing. The model in the tests explores them.
//
// A belief and the marks of its slots change together, under one lock. Hold it
// from [belief.judge] to the last [judgeSpend] of a pipeline, and from
// [belief.adopt] to the last mark that it raises.
//
// # What no rule closes
//
// Replication is asynchronous, so two primaries that answer at the same time
// each accept a token once. Such a split brain lasts while some gateways reach
// one server and some the other; min-replicas-to-write shortens it.
//
// A server that comes back too soon is the same. Once gateways have left it, it
// must stay away for longer than nonceLife and any step back of its clock,
// however short tokens live. Until then a gateway whose connection survived
// still finds the nonce that it knows. So must a database that SWAPDB
// exchanges, and a slot of a Cluster.

// Rule 1.
const (
	// nonceLife is D, the life of the nonce. When it ends, no gateway
	// relies on the server any more.
	nonceLife = 15 * time.Second

	// nonceBeat is how often a gateway extends its nonce, and reads the
	// revocations, whether anybody spends or not.
	nonceBeat = nonceLife / 3
)

// replaceNonce is the script that sets the nonce KEYS[1] to ARGV[2], for
// ARGV[3] milliseconds, if it is ARGV[1]; empty stands for a missing one. Its
// reply proves nothing: the guard asks the server again.
const replaceNonce = `
if (redis.call('GET', KEYS[1]) or '') == ARGV[1] then
	redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
end
return 1`

// extendNonce is the script that gives the nonce KEYS[1] another ARGV[2]
// milliseconds, if it is ARGV[1]. It returns 0 if not.
const extendNonce = `
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])`

// clock is a reading of a clock, in Unix milliseconds. Unlike a time.Time it
// has no monotonic part, which a comparison would prefer.
type clock int64

func clockOf(t time.Time) clock { return clock(t.UnixMilli()) }

func (c clock) time() time.Time { return time.UnixMilli(int64(c)).UTC() }

// identity names a server process and the history of its data. No two primaries
// have the same master_replid, and no primary has its old one again after it
// was a replica.
type identity struct {
	runID  string // run_id
	replID string // master_replid
}

// newNonce returns the text of a nonce that a gateway writes to the server with
// that identity. random is drawn for each attempt to write, so that a late
// attempt cannot bring back a nonce that somebody has adopted.
func (id identity) newNonce(random string) string {
	return random + " " + id.runID + " " + id.replID
}

// wrote reports whether a nonce was written to the server with that identity.
// Any other came by replication or from a file, and counts as missing.
func (id identity) wrote(nonce string) bool {
	random, ok := strings.CutSuffix(nonce, " "+id.runID+" "+id.replID)
	return ok && random != ""
}

// answer is what a server says of itself in one round trip.
type answer struct {
	conn     uint64 // the connection, which leads to one process
	primary  bool   // role
	identity        // run_id was read once on this connection
	nonce    string // empty if there is none
	revision int64  // of the revocations
	time     clock  // TIME, read with or after all the rest
}

// belief is what a gateway relies on at a server. The zero value is that of a
// gateway that starts.
type belief struct {
	conn     uint64 // 0: the server has to be verified
	identity        // with nonce, the pair of rule 2; runID is kept when the pair is not
	nonce    string
	doubted  bool  // the nonce must be replaced first, whoever wrote it
	revision int64 // of which this gateway has all revocations
	past     clock // every token that counted was issued before it
}

// A step is what a gateway does next on a connection to a server that it
// verifies.
type step int

const (
	stepRefuse step = iota // it is no primary
	stepWrite              // replaceNonce from now's nonce to a new one, then ask again
	stepAdopt              // belief.adopt
)

// next is rules 1 and 4. first and now are the first and the latest answer on
// one connection; another connection begins anew. A gateway that knew another
// process at this place, or doubts the data, adopts no nonce that was there
// before it came: other gateways may rely on that one, and do not know what was
// spent elsewhere since. A nonce that another gateway wrote at the same time is
// as good.
func (b belief) next(first, now answer) step {
	replace := b.doubted || b.runID != "" && b.runID != now.runID
	switch {
	case !now.primary:
		return stepRefuse
	case !now.wrote(now.nonce), replace && now.nonce == first.nonce:
		return stepWrite
	}
	return stepAdopt
}

// adopt makes the gateway rely on the pair of a, and reports whether it relied
// on another before. Then it must raise the marks before anything is spent, and
// knows no revocations (rule 7).
func (b belief) adopt(a answer) (next belief, other bool) {
	other = b.doubted || b.identity != a.identity || b.nonce != a.nonce
	next = belief{conn: a.conn, identity: a.identity, nonce: a.nonce, revision: b.revision, past: b.past}
	if other {
		next.revision = 0
	}
	return next, other
}

// unsure is for a server that was asked and is unfit, or whose revocations
// could not be fetched: nothing counts until it is verified again. The pair
// stays, because nothing says that data were lost.
func (b belief) unsure() belief {
	b.conn = 0
	return b
}

// lose is for an answer with another pair: the next adoption raises the marks
// even if it finds the old pair again.
func (b belief) lose() belief {
	return belief{identity: identity{runID: b.runID}, doubted: b.doubted, past: b.past}
}

// doubt is for a loss that the pair does not show: an eviction, a server that
// was unfit for a while, or one that this gateway did not know when it started.
// It replaces the nonce, so every gateway of the fleet raises its marks.
func (b belief) doubt() belief {
	b = b.lose()
	b.doubted = true
	return b
}

// trust says whether to believe the replies of a pipeline.
type trust int

const (
	verifyAnew trust = iota // believe none of them, and verify the server
	fetchFirst              // fetch the revocations, then judge again
	believe
)

// judge is rule 2: it judges the answer at the end of a pipeline, after its
// last write. own is this gateway's clock after the reply. On fetchFirst (rule
// 7), fetch the revocations and call [belief.caughtUp] for that pipeline; then
// a counts with the revision that it fetched.
func (b belief) judge(a answer, own clock) (belief, trust) {
	switch {
	case b.conn == 0 || a.conn != b.conn:
		return b, verifyAnew
	case !a.primary || a.replID != b.replID || a.nonce != b.nonce:
		return b.lose(), verifyAnew
	case a.revision != b.revision:
		return b, fetchFirst
	}
	b.past = max(b.past, min(own, a.time))
	return b, believe
}

// caughtUp is judge for a pipeline that fetched the revocations up to a
// revision. a is its answer, and counts with that revision. Revocations of
// another connection or pair are not known here.
func (b belief) caughtUp(a answer, revision int64, own clock) (belief, trust) {
	a.revision = revision
	next, t := b.judge(a, own)
	if t == fetchFirst {
		b.revision = revision
		next, t = b.judge(a, own)
	}
	return next, t
}

// raise is rule 3, for each slot of a server whose pair has changed, and for a
// slot that moved to another server. own is read after the reply that has
// server as its TIME. past is that of the belief in the server: with it, no
// token counts twice at this gateway, whatever the clocks do.
func raise(mark, past, own, server clock) clock { return max(mark, past, own, server) }

// readyAt returns the moment from which on every newly issued token counts.
func readyAt(mark clock, skew time.Duration) time.Time {
	return mark.time().Truncate(time.Second).Add(time.Second + skew)
}

// issued is what the rules ask of a token: a *token.Summary.
type issued interface {
	IssuedBefore(t time.Time) bool // issuedAt ≤ floor(t) + ClockSkew
}

// A ruling on one token.
type ruling int

const (
	counts     ruling = iota
	beforeMark        // it may have been spent and lost
	ahead             // of a clock: a later loss might be dated before it
)

// judgeSpend is rule 5. On entry server is own: only then is it certain that
// the token was not sent before its time. On the reply, read mark anew; own is
// the clock then, and server the TIME of this pipeline.
func judgeSpend(t issued, mark, own, server clock) ruling {
	switch {
	case t.IssuedBefore(mark.time()):
		return beforeMark
	case !t.IssuedBefore(min(own, server).time()):
		return ahead
	}
	return counts
}

// life is rule 6: for how many milliseconds the server remembers the token. The
// call began since ago, when the caller's clock showed now. The result is
// relative: with an absolute time that is over by its clock, the server would
// answer OK and store nothing.
func life(expiration, now clock, since, margin time.Duration) int64 {
	return max(int64(expiration-now)-since.Milliseconds(), 0) + margin.Milliseconds()
}

// timely is rule 6: it reports whether the server is sure to remember the token
// until no attempt passes this check any more. px is the shortest life of all
// attempts of the call, since is how long ago it began, and server the TIME of
// this pipeline.
//
// By the server's clock, a token passes until half of margin after its
// expiration. The key was set between the start of the call and now, for px at
// least. So it lives until px after the start, or longer, and by then no
// attempt may pass any more. Nothing else of the gateway's clock matters.
func timely(expiration, server clock, since, margin time.Duration, px int64) bool {
	last := expiration + clock(margin.Milliseconds()/2)
	start := server - clock(since.Milliseconds()) - 1
	return server < last && start+clock(px) >= last
}

// first is rule 6: whether a call is the first to spend its token, by the reply
// to its SET NX GET. own is the value of this call, in all its attempts. A
// reply that no call can have written is not ok.
func first(reply string, null bool, own string) (fresh, ok bool) {
	if null {
		return true, true
	}
	return reply == own, len(reply) == len(own)
}

// writeBack is rule 7: whether a guard that adopted another pair writes again
// what it revoked since ago. All gateways have fetched older revocations.
func writeBack(since time.Duration) bool { return since <= time.Minute }

// mapCounts reports whether a map of a Cluster's slots that was read since ago
// may be relied on when a reply arrives. It is read at each nonceBeat. A
// server's nonce outlives its slots, so only the map can tell that one of them
// was elsewhere for a while.
func mapCounts(since time.Duration) bool { return since < nonceLife }

// slotCounts is rule 3 for a reply on a token: it reports whether the reply
// came from the owner of the slot when it arrives. No mark covers a later reply
// of a former owner. The mark of the slot dates from its move, by clocks that
// may have been set back since the token was sent.
func slotCounts(from, owner *node) bool { return from == owner }

// slotRaises is rule 3 for a map that is read anew: it reports whether the mark
// of a slot must be raised. same says that the slot's owner has not changed,
// and since is how old the map before was.
func slotRaises(same bool, since time.Duration) bool { return !same || !mapCounts(since) }
