package replay

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"math"
	"math/bits"
	"time"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/internal/limits"
)

// DefaultRate is the [Config].Rate of a guard for which none is stated.
const DefaultRate = 10_000

// Config says for how many tokens, and for how long, a [Guard] has to have
// room. The zero value of each field is a safe default.
type Config struct {
	// Rate is how many tokens a second are spent at most, on average over the
	// life of a token; zero means DefaultRate. It sets the guard's capacity:
	// Rate × (MaxTTL + ClockSkew + 1 s) tokens, at most 2^30, however they are
	// spread over that time.
	Rate int

	// MaxTTL is the longest validity of a token, and ClockSkew how far ahead
	// the clock that issued it may be. Both are whole seconds, within the same
	// limits and with the same defaults as in keyring.Policy, and should be
	// taken from the ring. Tokens that live longer, or were issued further ahead,
	// are refused.
	MaxTTL, ClockSkew time.Duration

	// AcceptIssuedBeforeStart makes the guard accept tokens issued before it
	// was made. Set it only where no such token can be opened, because the
	// keys were made by this process and are nowhere else: with a ring from
	// keyring.New and one guard. Anywhere else it allows every token that was
	// spent before a restart to be used again.
	AcceptIssuedBeforeStart bool
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
	errRate      = errors.New("replay: Config.Rate is negative or asks for room for more than 2^30 tokens")
	errMaxTTL    = errors.New("replay: Config.MaxTTL is not whole seconds from 5 s to 10 min")
	errClock     = errors.New("replay: the clock is before 1970 or after 9999")
	errClockSkew = errors.New("replay: Config.ClockSkew is not whole seconds from 1 s to 1 min")
)

// Guard remembers spent tokens in memory, and implements token.Guard. It must
// be made with [New]; a zero or nil Guard refuses everything. It is safe for
// concurrent use, and must not be copied.
//
// Memory is taken as it is needed, then kept and used again. As long as tokens
// are spent evenly that is at most 20 bytes for each token of the capacity; at
// worst, after a burst in which the whole capacity expires in the same second,
// 36 bytes. To this adds what has to be there for each second: 1/4 MiB for a small
// guard, up to 2 MiB for a MaxTTL of a minute, and up to 15 MiB for ten minutes;
// for a capacity above eight million tokens up to 3 bytes for each, one of which
// New takes at once. The garbage collector sees one pointer for every few dozen
// tokens or more. A full guard refuses; it never forgets a token early to make
// room for another.
//
// A token is recognized by 64 of its random bits, among those of its shard that
// expire in the same second. If these are n, a fresh token is taken for a spent
// one with a probability of n in 2^64.
type Guard struct {
	shards        []shard
	shardCapacity int   // tokens that a shard takes
	capacity      int   // tokens that the guard promises to take
	lifetime      int64 // seconds within which every token expires
	skew          int64 // seconds by which a token may have been issued ahead of now
	started       int64 // tokens issued in this second, up to a skew later, or before are refused
}

// New makes a guard that is in force from now on. The error says which field of
// c is outside its limits.
//
// If the clock was set back by more than ClockSkew since an earlier guard, a token
// that was spent with that one can seem to be issued after the start of this one,
// and is let in again. To prevent that, record the time every so often, and pass
// the latest of these times and the present one for now.
func New(now time.Time, c Config) (*Guard, error) {
	rate := cmp.Or(c.Rate, DefaultRate)
	ttl := cmp.Or(c.MaxTTL, limits.DefaultTTL)
	skew := cmp.Or(c.ClockSkew, limits.DefaultClockSkew)
	lifetime := int64((ttl + skew + time.Second) / time.Second)
	switch {
	case now.Unix() < 0 || now.Unix() > limits.MaxUnix:
		return nil, errClock
	case !limits.Whole(ttl, limits.MinTTL, limits.MaxTTL):
		return nil, errMaxTTL
	case !limits.Whole(skew, time.Second, limits.MaxClockSkew):
		return nil, errClockSkew
	case rate < 0 || int64(rate) > maxCapacity/lifetime:
		return nil, errRate
	}
	g := &Guard{capacity: rate * int(lifetime), lifetime: lifetime, skew: int64(skew / time.Second)}
	g.started = now.Unix()
	if c.AcceptIssuedBeforeStart {
		g.started = math.MinInt64
	}
	g.divide(int(ttl / time.Second))
	return g, nil
}

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
// error, where the guard cannot tell, is [ErrFull], [ErrBeforeStart],
// [ErrForgotten] or [ErrTooLong]. Spend does not allocate except for memory that
// it keeps, retains nothing of t, and never waits: ctx is not used.
func (g *Guard) Spend(_ context.Context, now time.Time, t claims.Summary) (fresh bool, err error) {
	if g == nil || len(g.shards) == 0 {
		return false, ErrUnavailable
	}
	key := nonzero(binary.LittleEndian.Uint64(t.TokenID[:8]))
	// Not of the same bits: all tokens of a shard would share them.
	which := binary.LittleEndian.Uint64(t.TokenID[8:]) & uint64(len(g.shards)-1)
	// An earlier guard may have been told of all of the ring's.
	skew := max(g.skew, int64(t.ClockSkew/time.Second))
	o := g.shards[which].spend(g, key, now.Unix(), t.IssuedAt.Unix(), t.Expiration.Unix(), skew)
	return o == isFresh, outcomeErrors[o]
}

// ReadyAt returns the first moment at which a token that is issued then, by a
// clock that agrees with this one, is accepted: ClockSkew and up to a second
// after the guard was made. Until then it refuses with [ErrBeforeStart], and a
// gateway should not report itself ready. With AcceptIssuedBeforeStart it is
// the zero time. ReadyAt goes by the ClockSkew of Config: if the ring's is larger,
// tokens are refused for longer, by the difference.
//
// A guard that was made while the clock was far ahead becomes ready only when the
// clock gets there. Make another one when the clock is right. In such a guard,
// ReadyAt is further away than ClockSkew and a second, which a health check can
// notice. A zero or nil Guard is ready at the end of the year 9999.
func (g *Guard) ReadyAt() time.Time {
	if g == nil || len(g.shards) == 0 {
		return time.Unix(limits.MaxUnix, 0).UTC()
	}
	if g.started == math.MinInt64 {
		return time.Time{}
	}
	return time.Unix(g.started+g.skew+1, 0).UTC()
}
