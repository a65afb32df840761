package replay

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"math"
	"math/bits"
	"time"

	"github.com/seed17cb2b26/chattoken/internal/limits"
	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/token"
)

// Config says for how many tokens, and for how long, a [Guard] has to have
// room. Limits must be set; the zero value of each other field is a safe
// default.
type Config struct {
	// Limits are those of the ring, from Ring.Limits. Tokens that live longer,
	// or were issued further ahead of the clock, are refused. When a ring's
	// policy is to be raised, make guards with the new limits first.
	Limits keyring.Limits

	// Rate is how many tokens a second are spent at most, on average over the
	// life of a token; zero means DefaultRate. It sets the guard's capacity:
	// Rate × (MaxTTL + ClockSkew + 1 s) tokens, at most 2^30, however they are
	// spread over that time.
	Rate int

	// MaxRevocations is how many revocations of users and rooms there may be at
	// a time, and half as many of single tokens; zero means
	// DefaultMaxRevocations. See [Revocations].
	MaxRevocations int

	// AcceptIssuedBeforeStart makes the guard accept tokens issued before it
	// was made. Set it only if no such token can be opened, because the
	// keys were made by this process and are nowhere else: with a ring from
	// keyring.New and one guard. Anywhere else it allows every token that was
	// spent before a restart to be used again.
	AcceptIssuedBeforeStart bool

	// NotBefore makes the guard refuse the tokens issued before that moment, as
	// it does those issued before its start. It helps where the clock may be
	// set back by more than ClockSkew between two starts: a token that was
	// spent with the earlier guard would seem to be issued after the start of
	// the later one. Record the time every so often, and give the latest of
	// these times here.
	NotBefore time.Time

	// Now is the clock that says when the guard was made, and that dates
	// revocations and [Guard.Synced]. Nil means time.Now.
	Now func() time.Time
}

const (
	// A shard is for 4,096 tokens, until there are enough shards to keep
	// goroutines out of each other's way. More would scatter the buckets over
	// so much memory that finding one is another cache miss. Past 128 Ki tokens
	// a shard, there are more of them again.
	fewShardTokens = 1 << 12
	minShards      = 16
	enoughShards   = 64
	maxShardTokens = 1 << 17

	// maxCapacity keeps the arithmetic within 32 bits.
	maxCapacity = 1 << 30
)

var (
	errMax       = errors.New("replay: Config.MaxRevocations is negative")
	errRate      = errors.New("replay: Config.Rate is negative or asks for room for more than 2^30 tokens")
	errLimits    = errors.New("replay: Config.Limits is not set: use Ring.Limits")
	errMaxTTL    = errors.New("replay: Config.Limits.MaxTTL is not whole seconds from 5 s to 10 min")
	errClockSkew = errors.New("replay: Config.Limits.ClockSkew is not whole seconds from 1 s to 1 min")
	errClock     = errors.New("replay: the clock or Config.NotBefore is before 1970 or after 9999")
	errZero      = token.Unavailable("replay: this guard was not made by New")
)

// Guard remembers spent tokens and revocations in memory, and implements
// token.Guard. It must be made with [New]; a zero or nil Guard refuses
// everything. It is safe for concurrent use, and must not be copied. A full
// guard refuses; it never forgets a token early to make room for another.
//
// Memory is taken as it is needed, then kept and used again. At most it is
//
//	20 bytes     for each token of the capacity, if tokens are spent evenly
//	36 bytes     for each, after a burst that expires in the same second
//	1/4–2 MiB    for the seconds of a MaxTTL of a minute
//	up to 15 MiB for those of ten minutes
//	3 bytes      more for each token, above a capacity of eight million
//
// and that of [Revocations]. The garbage collector sees one pointer for every
// few dozen tokens or more.
//
// A token is recognized by 64 of its random bits, among those of its shard that
// expire in the same second. If these are n, a fresh token is taken for a spent
// one with a probability of n in 2^64.
type Guard struct {
	shards        []shard
	shardCapacity int            // tokens that a shard takes
	capacity      int            // tokens that the guard promises to take
	limits        keyring.Limits // as configured
	lifetime      int64          // seconds within which every token expires
	skew          int64          // seconds by which a token may have been issued ahead of now
	started       time.Time      // tokens issued before it are refused; zero for none
	now           func() time.Time
	revocations   Revocations
}

// New makes a guard that is in force from now on. The error says which field of
// c is outside its limits.
func New(c Config) (*Guard, error) {
	clock := c.Now
	if clock == nil {
		clock = time.Now
	}
	now, notBefore := clock().Round(0), c.NotBefore.Round(0) // by the time of day only
	rate := cmp.Or(c.Rate, DefaultRate)
	ttl, skew := c.Limits.MaxTTL, c.Limits.ClockSkew
	lifetime := int64((ttl + skew + time.Second) / time.Second)
	switch {
	case c.Limits == keyring.Limits{}:
		return nil, errLimits
	case !limits.Whole(ttl, limits.MinTTL, limits.MaxTTL):
		return nil, errMaxTTL
	case !limits.Whole(skew, time.Second, limits.MaxClockSkew):
		return nil, errClockSkew
	case !inRange(now), !notBefore.IsZero() && !inRange(notBefore):
		return nil, errClock
	case c.MaxRevocations < 0:
		return nil, errMax
	case rate < 0 || int64(rate) > maxCapacity/lifetime:
		return nil, errRate
	}
	g := &Guard{
		capacity:    rate * int(lifetime),
		limits:      c.Limits,
		lifetime:    lifetime,
		skew:        int64(skew / time.Second),
		started:     notBefore,
		now:         clock,
		revocations: Revocations{MaxEntries: c.MaxRevocations},
	}
	if !c.AcceptIssuedBeforeStart && now.After(g.started) {
		g.started = now
	}
	g.divide(int(ttl / time.Second))
	return g, nil
}

func inRange(t time.Time) bool { return t.Unix() >= 0 && t.Unix() <= limits.MaxUnix }

// divide makes the shards. ttl is in seconds.
func (g *Guard) divide(ttl int) {
	g.shards = make([]shard, shardCount(g.capacity))
	g.shardCapacity = shardCapacity(g.capacity, len(g.shards))
	// A power of two no smaller than lifetime: a mask finds the bucket, and no
	// two seconds in which unexpired tokens can expire share one.
	buckets := ceilPowerOfTwo(int(g.lifetime))
	first := tableFor(g.shardCapacity / ttl)
	for i := range g.shards {
		g.shards[i].buckets = make([]bucket, buckets)
		g.shards[i].pool.first = first
	}
}

func shardCount(capacity int) int {
	n := max(minShards, min(capacity/fewShardTokens, enoughShards), capacity/maxShardTokens)
	return ceilPowerOfTwo(n)
}

func ceilPowerOfTwo(n int) int { return 1 << bits.Len(uint(n-1)) }

// shardCapacity is how many tokens a shard takes so that none of the shards is
// full before the guard is. The number in a shard has mean m and variance m;
// with seven standard deviations, and a little for where m is small and the
// distribution skewed, a full guard was refused a token too early with a
// probability below 10^-8.
func shardCapacity(capacity, shards int) int {
	mean := float64(capacity) / float64(shards)
	return int(math.Ceil(mean + 7*math.Sqrt(mean) + 12))
}

// Spend reports whether the token is fresh, and from then on it is not. The
// error, if the guard cannot tell, is [ErrFull], [ErrBeforeStart],
// [ErrForgotten] or [ErrTooLong]; for a revoked token it is that of
// [Guard.Revoked]. Spend does not allocate except for memory that it keeps,
// retains nothing of s, and never waits: ctx is not used.
func (g *Guard) Spend(_ context.Context, now time.Time, s token.Summary) (fresh bool, err error) {
	if g.isZero() {
		return false, errZero
	}
	key := nonzero(binary.LittleEndian.Uint64(s.TokenID[:8]))
	// Not of the same bits: all tokens of a shard would share them.
	which := &g.shards[binary.LittleEndian.Uint64(s.TokenID[8:])&uint64(len(g.shards)-1)]
	if err := g.revocations.Revoked(s); err != nil {
		return false, err
	}
	// An earlier guard may have been told of all of the ring's.
	s.ClockSkew = max(g.limits.ClockSkew, s.ClockSkew)
	o := which.spend(g, key, now.Unix(), s.IssuedAt.Unix(), s.Expiration.Unix(), s.IssuedBefore(g.started))
	return o == isFresh, outcomeErrors[o]
}

func (g *Guard) isZero() bool { return g == nil || len(g.shards) == 0 }

// Revoked reports whether the token, or the session that was opened with it,
// was revoked: nil, token.ErrRevoked or token.ErrAllRevoked. Ask it for live
// sessions with token.Session.Summary. It takes no lock and does not allocate.
func (g *Guard) Revoked(s token.Summary) error {
	if g.isZero() {
		return errZero
	}
	return g.revocations.Revoked(s)
}

// Revoke ends the tokens and sessions of t that were issued before the moment
// issuedBefore, as token.Summary.IssuedBefore has it: those that were issued up
// to ClockSkew after it, too, so that a user who may come back has to wait that
// long. For a Token the moment does not matter. When Revoke returns nil, no
// such token is let in any more, and [Guard.Revoked] tells of the sessions. To
// give a banned user no more tokens is up to the application, or to an
// admission rule.
//
// After an error, repeat the call. The errors are those of
// [Revocations.Revoke], after which nothing is revoked. ctx is not used.
//
// Revocations are of one process, and end with it. So do its sessions; its
// unused tokens are refused by the next guard.
func (g *Guard) Revoke(_ context.Context, t token.Target, issuedBefore time.Time) error {
	if g.isZero() {
		return errZero
	}
	return g.revocations.Revoke(g.now(), t, issuedBefore)
}

// Sync calls news for every target that was revoked since the last call, with
// the moment before which; see [Revocations.News]. Look up the live sessions of
// the target, and close those for which [Guard.Revoked] is not nil: whoever
// came back since stays. Each target is told to one caller, so a process has
// one loop that calls Sync, every second or so. ctx is not used.
func (g *Guard) Sync(_ context.Context, news func(t token.Target, issuedBefore time.Time)) error {
	if g.isZero() {
		return errZero
	}
	g.revocations.News(news)
	return nil
}

// Synced returns the moment up to which this process knows what others revoked.
// In memory there are no others: it is now. Of a zero or nil Guard it is the
// zero time. That nobody calls Sync shows in Stats as news that grow.
func (g *Guard) Synced() time.Time {
	if g.isZero() {
		return time.Time{}
	}
	return g.now()
}

// Limits returns those of Config. A guard whose limits are below the ring's
// refuses honest tokens: token.Opener.Validate tells.
func (g *Guard) Limits() keyring.Limits {
	if g == nil {
		return keyring.Limits{}
	}
	return g.limits
}

// ReadyAt returns the first moment at which a token that is issued then, by a
// clock that agrees with this one, is accepted: ClockSkew and up to a second
// after the guard was made. Until then it refuses with [ErrBeforeStart], and a
// gateway should not report itself ready. With AcceptIssuedBeforeStart it is
// the zero time, or goes by NotBefore.
//
// A guard that was made while the clock was far ahead becomes ready only when
// the clock gets there. Make another one when the clock is right. In such a
// guard, ReadyAt is further away than ClockSkew and a second, which a health
// check can notice. A zero or nil Guard is ready at the end of the year 9999.
func (g *Guard) ReadyAt() time.Time {
	if g.isZero() {
		return time.Unix(limits.MaxUnix, 0).UTC()
	}
	if g.started.IsZero() {
		return time.Time{}
	}
	return time.Unix(g.started.Unix()+g.skew+1, 0).UTC()
}
