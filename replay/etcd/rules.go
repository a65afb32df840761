package etcd

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/seed17cb2b26/chattoken/token"
)

// The decisions of the guard, as pure functions. The I/O calls them and decides
// nothing. The model in the tests explores them. The guard's lock covers every
// change.

const (
	// beatEvery is the interval of the heartbeat, whether anybody spends or
	// not.
	beatEvery = time.Second

	// beatLife is how long a gateway's key outlives its last heartbeat, and
	// how long the gateway relies on it. A gateway that stood still for
	// longer, with all of its clocks, finds its key gone. It is half of
	// margin: such a gateway may overrate what is left of a lease by
	// beatLife, and the other half remains.
	beatLife = 30 * time.Second

	// margin is how long the cluster remembers a token after it has
	// expired. The clocks of two gateways may be apart by that, less
	// beatLife and setBack, because shorter pauses and steps go unnoticed.
	margin = time.Minute

	// setBack is how far a clock may go back, all steps together, before
	// the guard raises its mark.
	setBack = 10 * time.Second

	// leaseSlack is what a lease is granted beyond its need, because it is
	// used a little later.
	leaseSlack = 5 * time.Second

	// leaseKeys is the most keys of a lease. One with more would hold up
	// the cluster when it ends.
	leaseKeys = 1000

	// maxBatch is how many tokens share a transaction. The cluster allows
	// 128 operations by default.
	maxBatch = 100

	// revocationLife is how long a session that a revocation can end lasts
	// at most: three hours and the largest skew.
	revocationLife = 3*time.Hour + maxSkew

	// Limits of the format, which keyring.Policy has, too.
	maxTTL                     = 10 * time.Minute
	defaultSkew, maxSkew       = 5 * time.Second, time.Minute
	maxSecond            int64 = 253402300799 // the end of the year 9999
)

// The keys, after the prefix. The last three begin the names of many.
const (
	markerKey  = "marker"      // has another random value after each loss
	counterKey = "revocations" // has another random value after each revocation
	gatewayKey = "gateway/"    // each gateway's own
	spentKey   = "spent/"      // and the 16 bytes of a token's ID
	revokedKey = "revoked/"    // and what nameOf returns
)

// millis is a time, in Unix milliseconds, or a duration. Unlike a time.Time it
// has no monotonic part, which a comparison would prefer.
type millis int64

func millisOf(t time.Time) millis { return millis(t.UnixMilli()) }

func duration(d time.Duration) millis { return millis(d.Milliseconds()) }

func (m millis) time() time.Time { return time.UnixMilli(int64(m)).UTC() }

// instant is one reading of both clocks.
type instant struct {
	wall   millis // Config.Now
	steady millis // the monotonic clock of this process
}

// history is what this gateway's clock has shown, and the mark that follows.
type history struct {
	mark   millis // tokens issued before are refused
	latest millis // the latest issue of a token that was to be spent, less its skew
	ahead  millis // the most that wall was ahead of steady since mark was raised
}

// start returns the history of a gateway that starts. It does not know what an
// earlier one accepted.
func start(at instant) history { return history{mark: at.wall, ahead: at.wall - at.steady} }

// notice raises the mark if the wall clock was set back: the cluster may have
// forgotten tokens that now seem timely again.
func (h *history) notice(at instant) {
	if at.wall-at.steady < h.ahead-duration(setBack) {
		h.raise(at)
	}
	h.ahead = max(h.ahead, at.wall-at.steady)
}

// raise refuses whatever anybody may have spent until now: tokens issued before
// what the clock shows, or would show if it had not been set back. If it was
// set back by more than a day, it was wrong before and is right now. Then only
// tokens that this gateway was shown count, or it would refuse everything for
// years.
func (h *history) raise(at instant) {
	h.mark = max(h.mark, at.wall, h.latest)
	if went := at.steady + h.ahead; went-at.wall <= duration(24*time.Hour) {
		h.mark = max(h.mark, went)
	}
	h.ahead = at.wall - at.steady
}

// ruling returns why a token is refused without a request to the cluster. now
// is the caller's clock.
func (h *history) ruling(s token.Summary, now millis, at instant) error {
	switch {
	case s.IssuedBefore(h.mark.time()):
		return ErrDataLost
	case !s.IssuedBefore(at.wall.time()):
		return errTokenAhead
	case at.wall >= millisOf(s.Expiration):
		return errTokenOver
	case millisOf(s.Expiration)-min(now, at.wall) > duration(maxTTL+skewOf(s)+time.Second):
		return errTokenLong
	}
	return nil
}

// attempt records that a token is about to be spent.
func (h *history) attempt(s token.Summary) {
	h.latest = max(h.latest, millisOf(s.IssuedAt.Add(-skewOf(s))))
}

func skewOf(s token.Summary) time.Duration {
	if s.ClockSkew == 0 {
		return defaultSkew
	}
	return s.ClockSkew
}

// belief is what this gateway relies on. While the cluster has the marker, and
// a value of the gateway's own key no older than the last acknowledged one, it
// has everything that it acknowledged to this gateway before. A restored
// cluster has an older value or none, whatever its revisions are.
type belief struct {
	marker  string  // empty if there is no belief
	gateway string  // the name of the own key
	count   uint64  // the beat that was acknowledged last
	value   string  // what the own key has since
	next    string  // the value of the beat under way: the same in all attempts
	beat    instant // before the beat that was acknowledged last

	revocations string // the value of the revocation counter at revision; empty if not known
	revision    int64
}

// over reports whether the last heartbeat is so long ago that a snapshot may be
// newer than it: then nothing is believed. If the monotonic clock stood still
// with the machine, the wall clock may tell. One that is more than a day ahead
// is wrong.
func (b *belief) over(at instant) bool {
	wall := at.wall - b.beat.wall
	return at.steady-b.beat.steady > duration(beatLife) ||
		duration(beatLife) < wall && wall <= duration(24*time.Hour)
}

// believeIn returns the belief of a gateway that joins with a new key.
func believeIn(marker, gateway, random, next string) belief {
	return belief{marker: marker, gateway: gateway, count: 1, value: beatValue(1, random), next: beatValue(2, next)}
}

// beaten records that the heartbeat under way was executed.
func (b *belief) beaten(next string) {
	b.count++
	b.value, b.next = b.next, beatValue(b.count+1, next)
}

// beatValue returns the value of a heartbeat: a counter of fixed width, and
// something random, so that a clone of the gateway is noticed.
func beatValue(count uint64, random string) string { return fmt.Sprintf("%016x", count) + random }

// atLeast returns a lower bound of the values of this heartbeat and all later
// ones.
func (b *belief) atLeast() string { return beatValue(b.count, "") }

// condition is what a transaction compares: the value of a key. A missing key
// has none.
type condition struct{ key, op, value string }

// conditions are those of every transaction that spends. If they do not hold,
// it writes nothing. While the counter is not known, they never hold.
func (b *belief) conditions(prefix string) []condition {
	return []condition{
		{prefix + markerKey, "=", b.marker},
		{prefix + counterKey, "=", b.revocations},
		{b.gateway, ">", b.atLeast()},
	}
}

// reading is what the cluster has. What is missing is empty.
type reading struct{ marker, gateway, revocations string }

// finding is what a reading means.
type finding int

const (
	holds    finding = iota // the belief
	beats                   // the belief, and the beat under way was executed
	strange                 // another marker, or the own key is gone or not of this process: raise the mark
	restored                // older than it was: raise the mark, and replace the marker for all gateways
)

// judge compares a reading with the belief.
func (b *belief) judge(r reading) finding {
	switch {
	case r.marker == "" || r.revocations == "":
		return restored
	case r.marker != b.marker || r.gateway == "":
		return strange
	case r.gateway == b.value:
		return holds
	case r.gateway == b.next:
		return beats
	case r.gateway < b.atLeast():
		return restored
	}
	return strange
}

// lease is for tokens that expire in the same second.
type lease struct {
	id      clientv3.LeaseID
	asked   instant // before it was granted
	ttl     millis  // as the cluster granted it
	keys    int
	missing bool // the cluster does not have it
}

// left returns how much longer the cluster has the lease, at least. If the
// monotonic clock stood still with the machine, the wall clock may tell.
func (l *lease) left(at instant) millis {
	return l.ttl - max(at.steady-l.asked.steady, at.wall-l.asked.wall)
}

// fits reports whether l outlives a token by the margin.
func (l *lease) fits(expires int64, now millis, at instant) bool {
	return !l.missing && l.left(at) >= millis(expires)*1000-now+duration(margin)
}

// leaseTTL returns the seconds to ask for.
func leaseTTL(expires int64, now millis) int64 {
	return int64(millis(expires)*1000-now+duration(margin+leaseSlack))/1000 + 1
}

// leases are those of this gateway, by the second in which their tokens expire.
// nil stands for one that was asked for.
type leases map[int64][]*lease

// take returns a lease for a token and counts it as used, or returns nil.
func (ls leases) take(expires int64, now millis, at instant) *lease {
	for _, l := range ls[expires] {
		if l != nil && l.keys < leaseKeys && l.fits(expires, now, at) {
			l.keys++
			return l
		}
	}
	return nil
}

// ask returns the seconds for which to ask for a lease, and records them. It
// asks for another before the last one is full. If tokens are many, it also
// asks for one for the next second, so that they seldom wait.
func (ls leases) ask(expires int64, now millis, at instant) (seconds []int64) {
	enough := func(l *lease) bool {
		return l == nil || l.keys < leaseKeys/2 && l.fits(expires, now, at)
	}
	busy := func(l *lease) bool { return l != nil && l.keys > 1 }
	if !slices.ContainsFunc(ls[expires], enough) {
		seconds = append(seconds, expires)
	}
	if len(ls[expires+1]) == 0 && slices.ContainsFunc(ls[expires], busy) {
		seconds = append(seconds, expires+1)
	}
	for _, s := range seconds {
		ls[s] = append(ls[s], nil)
	}
	return seconds
}

// answer enters a lease that was asked for, or nil if there is none.
func (ls leases) answer(expires int64, l *lease) {
	of := ls[expires]
	if i := slices.Index(of, nil); i >= 0 {
		of = slices.Delete(of, i, i+1)
	}
	if l != nil {
		of = append(of, l)
	}
	ls.set(expires, of)
}

// sweep forgets leases that no token can use any more.
func (ls leases) sweep(at instant) {
	for expires, of := range ls {
		ls.set(expires, slices.DeleteFunc(of, func(l *lease) bool {
			return l != nil && (l.missing || l.left(at) < duration(margin))
		}))
	}
}

func (ls leases) set(expires int64, of []*lease) {
	if ls[expires] = of; len(of) == 0 {
		delete(ls, expires)
	}
}

// call is one call of Spend.
type call struct {
	token token.Summary // without what was lent
	key   string
	value string   // random, and the same in all attempts
	now   millis   // by the caller's clock, when the call began
	began instant  // by this process's
	used  []*lease // of all attempts

	left   bool // the caller has gone
	failed error
	answer chan answer // of capacity 1
}

type answer struct {
	fresh bool
	err   error
}

// time returns the caller's clock at a later instant.
func (c *call) time(at instant) millis { return c.now + at.steady - c.began.steady }

// slowest returns the same, or this process's clock if that is behind.
func (c *call) slowest(at instant) millis { return min(c.time(at), at.wall) }

// form takes the calls for one transaction from the queue, each with a lease
// and no token twice. It also returns the rest of the queue, and the calls
// whose callers have gone. It calls take for each call that needs a lease.
func form(queue []*call, at instant, take func(c *call) *lease) (batch, rest, gone []*call) {
	tokens := make(map[token.ID]bool, maxBatch)
	for i, c := range queue {
		switch {
		case c.left:
			gone = append(gone, c)
		case len(batch) == maxBatch:
			return batch, append(rest, queue[i:]...), gone
		case !tokens[c.token.TokenID] && c.ready(at, take):
			tokens[c.token.TokenID] = true
			batch = append(batch, c)
		default:
			rest = append(rest, c)
		}
	}
	return batch, rest, gone
}

// ready reports whether c has a usable lease, the last of used, and takes one
// if not.
func (c *call) ready(at instant, take func(c *call) *lease) bool {
	if n := len(c.used); n > 0 && c.used[n-1].fits(c.token.Expiration.Unix(), c.slowest(at), at) {
		return true
	}
	l := take(c)
	if l != nil {
		c.used = append(c.used, l)
	}
	return l != nil
}

// outcome is what an executed transaction says of one token.
type outcome struct {
	created bool
	value   string // of the key that was there, if not created
}

// judge returns the answer to a call.
func (c *call) judge(o outcome, h *history, at instant) (fresh bool, err error) {
	switch {
	case !o.created && o.value == "":
		return false, errReply
	case !o.created && o.value != c.value:
		return false, nil
	}
	if err := h.ruling(c.token, c.now, at); err != nil {
		return false, err
	}
	expires := millisOf(c.token.Expiration)
	if c.time(at) >= expires {
		return false, errTokenOver
	}
	for _, l := range c.used {
		// The key may have any of these leases.
		if !l.missing && l.left(at) < expires-c.slowest(at)+duration(margin)/2 {
			return false, errForgotten
		}
	}
	return true, nil
}

// nameOf returns the name of a revocation: its target as JSON.
func nameOf(t token.Target) string {
	name, _ := json.Marshal(t) // strings, bytes and a bool
	return string(name)
}

// targetOf returns the target of a name. For no name of ours it is not valid.
func targetOf(name []byte) (t token.Target) {
	if err := json.Unmarshal(name, &t); err != nil {
		return token.Target{}
	}
	return t
}

// momentValue returns the value of a revocation: the Unix second of its moment,
// in a fixed width. A single token's moment is that of the call.
func momentValue(second int64) string { return fmt.Sprintf("%012d", second) }

// momentOf returns the second of a value.
func momentOf(value []byte) (second int64, ok bool) {
	second, err := strconv.ParseInt(string(value), 10, 64)
	return second, err == nil && second >= 0 && second <= maxSecond
}

// revocationTTL returns for how many seconds a revocation is stored: as long as
// a session from before its moment may last, within what a cluster grants.
func revocationTTL(second int64, now millis) int64 {
	ahead := max(0, second-int64(now)/1000)
	return min(int64(revocationLife/time.Second)+ahead+1, clientv3.MaxLeaseTTL)
}
