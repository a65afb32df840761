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

// Config sizes a [Guard]. Limits must be set; the zero value of each other
// field is a safe default.
type Config struct {
	// Limits are the ring's, from [keyring.Ring.Limits]. The guard refuses
	// tokens that live longer or were issued further ahead of the clock.
	// Before you raise a ring's policy, make guards with the new limits.
	Limits keyring.Limits

	// Rate is how many tokens a second are spent at most, on average over
	// the life of a token; zero means DefaultRate. The guard has room for
	// Rate × (MaxTTL + ClockSkew + 1 s) tokens, at most 2^30, however they
	// are spread over that time.
	Rate int

	// MaxRevocations is how many revocations of users and rooms there may
	// be at a time. Single tokens have room of their own, half as much.
	// Zero means DefaultMaxRevocations. See [Revocations].
	MaxRevocations int

	// AcceptIssuedBeforeStart makes the guard accept tokens issued before
	// it was made. Set it only for one guard whose keys this process made
	// and nobody else has: a ring from [keyring.New]. Anywhere else, every
	// token spent before a restart can be used again.
	AcceptIssuedBeforeStart bool

	// NotBefore makes the guard also refuse tokens issued before that
	// moment. Set it if the clock may go back by more than ClockSkew
	// between two starts: otherwise a token spent with the earlier guard
	// seems to be issued after the start of the later one. Record the time
	// regularly, and give the latest here.
	NotBefore time.Time

	// Now is the clock for the guard's start, for revocations and for
	// [Guard.Synced]. Nil means time.Now.
	Now func() time.Time
}

const (
	// A shard holds 4,096 tokens until there are enough shards to keep
	// goroutines apart. More shards would scatter the buckets over so much
	// memory that finding one is another cache miss. Above 128 Ki tokens a
	// shard, their number grows again.
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
// [token.Guard]. Make it with [New]; a zero or nil Guard refuses everything. It
// is safe for concurrent use, and must not be copied. A full guard refuses; it
// never forgets a token early to make room.
//
// It allocates memory as needed, keeps it and reuses it. The most it takes is
//
//	20 bytes     for each token of the capacity, if tokens are spent evenly
//	36 bytes     for each, after a burst that expires in the same second
//	1/4–2 MiB    for the seconds of a MaxTTL of a minute
//	up to 15 MiB for those of ten minutes
//	3 bytes      more for each token, above a capacity of eight million
//
// plus that of [Revocations]. The garbage collector sees one pointer for every
// few dozen tokens or more.
//
// The guard recognizes a token by 64 of its random bits, among the n tokens of
// its shard that expire in the same second. It takes a fresh token for a spent
// one with a probability of n in 2^64.
type Guard struct {
	shards        []shard
	shardCapacity int            // tokens that a shard takes
	capacity      int            // tokens that the guard promises to take
	limits        keyring.Limits // as configured
	lifetime      int64          // seconds within which every token expires
	skew          int64          // seconds that issuers may be ahead
	started       time.Time      // older tokens are refused; zero: none
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
	now, notBefore := clock().Round(0), c.NotBefore.Round(0) // wall clock
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
	// At least lifetime, and a power of two: a mask finds the bucket,
	// and no two seconds in which unexpired tokens can expire share one.
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

// shardCapacity returns how many tokens a shard takes so that no shard is full
// before the guard is. The number in a shard has mean m and variance m. With
// seven standard deviations, and a little more for small m, whose distribution
// is skewed, a guard refuses a token too early with a probability below 10^-8.
func shardCapacity(capacity, shards int) int {
	mean := float64(capacity) / float64(shards)
	return int(math.Ceil(mean + 7*math.Sqrt(mean) + 12))
}

// Spend reports whether the token is fresh, and marks it as spent. If the guard
// cannot tell, the error is [ErrFull], [ErrBeforeStart], [ErrForgotten] or
// [ErrTooLong]. For a revoked token it is that of [Guard.Revoked]. Spend
// allocates only memory that the guard keeps, retains nothing of s, and never
// waits; it ignores ctx.
func (g *Guard) Spend(_ context.Context, now time.Time, s token.Summary) (fresh bool, err error) {
	if g.isZero() {
		return false, errZero
	}
	key := nonzero(binary.LittleEndian.Uint64(s.TokenID[:8]))
	// Other bits than the key's, which all tokens of a shard would share.
	which := &g.shards[binary.LittleEndian.Uint64(s.TokenID[8:])&uint64(len(g.shards)-1)]
	if err := g.revocations.Revoked(s); err != nil {
		return false, err
	}
	// An earlier guard may have had all of the ring's skew.
	s.ClockSkew = max(g.limits.ClockSkew, s.ClockSkew)
	o := which.spend(g, key, now.Unix(), s.IssuedAt.Unix(), s.Expiration.Unix(), s.IssuedBefore(g.started))
	return o == isFresh, outcomeErrors[o]
}

func (g *Guard) isZero() bool { return g == nil || len(g.shards) == 0 }

// Revoked returns [token.ErrRevoked] or [token.ErrAllRevoked] if the token, or
// the session that it opened, was revoked, and nil otherwise. For a live
// session, pass its [token.Session.Summary]. Revoked takes no lock and does not
// allocate.
func (g *Guard) Revoked(s token.Summary) error {
	if g.isZero() {
		return errZero
	}
	return g.revocations.Revoked(s)
}

// Revoke ends the tokens and sessions of t that were issued before the moment
// issuedBefore. [token.Summary.IssuedBefore] compares, so those issued up to
// ClockSkew later end, too: a user who may come back has to wait that long. For
// a Token the moment does not matter. Once Revoke returns nil, the guard
// refuses these tokens and [Guard.Revoked] reports these sessions. The
// application, or an admission rule, must stop issuing tokens to a banned user.
//
// After an error, repeat the call: nothing was revoked. The errors are those of
// [Revocations.Revoke]. Revoke ignores ctx.
//
// Revocations end with the process. So do its sessions, and the next guard
// refuses its unused tokens.
func (g *Guard) Revoke(_ context.Context, t token.Target, issuedBefore time.Time) error {
	if g.isZero() {
		return errZero
	}
	return g.revocations.Revoke(g.now(), t, issuedBefore)
}

// Sync calls news for every target that was revoked since the last call, with
// its moment; see [Revocations.News]. Look up the live sessions of the target,
// and close those that [Guard.Revoked] reports. That spares users who came back
// since. Each target is reported to one caller, so a process calls Sync in one
// loop, every second or so. Sync ignores ctx.
func (g *Guard) Sync(_ context.Context, news func(t token.Target, issuedBefore time.Time)) error {
	if g.isZero() {
		return errZero
	}
	g.revocations.News(news)
	return nil
}

// Synced returns the moment up to which this process knows what others revoked.
// In memory there are no others, so it is now. For a zero or nil Guard it is
// the zero time. If nobody calls Sync, [RevocationStats.News] grows.
func (g *Guard) Synced() time.Time {
	if g.isZero() {
		return time.Time{}
	}
	return g.now()
}

// Limits returns [Config.Limits]. If they are below the ring's, the guard
// refuses honest tokens; [token.Opener.Validate] reports it.
func (g *Guard) Limits() keyring.Limits {
	if g == nil {
		return keyring.Limits{}
	}
	return g.limits
}

// ReadyAt returns the first moment at which newly issued tokens are accepted,
// if the issuer's clock agrees with this one. It is ClockSkew and up to a
// second after the guard was made. Until then the guard refuses with
// [ErrBeforeStart], and a gateway should not report itself ready. With
// AcceptIssuedBeforeStart ReadyAt goes by NotBefore, or is the zero time.
//
// If the clock was far ahead when the guard was made, the guard becomes ready
// only when the clock gets there. A health check can notice: ReadyAt is further
// away than ClockSkew and a second. Make another guard when the clock is right.
// For a zero or nil Guard ReadyAt is the end of the year 9999.
func (g *Guard) ReadyAt() time.Time {
	if g.isZero() {
		return time.Unix(limits.MaxUnix, 0).UTC()
	}
	if g.started.IsZero() {
		return time.Time{}
	}
	return time.Unix(g.started.Unix()+g.skew+1, 0).UTC()
}
