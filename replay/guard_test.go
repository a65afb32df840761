package replay_test

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/internal/limits"
	"github.com/seed17cb2b26/chattoken/internal/testenv"
	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/replay"
	"github.com/seed17cb2b26/chattoken/token"
)

var (
	_ token.Guard = (*replay.Guard)(nil)

	ctx   = context.Background()
	epoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
)

const tenYears = 10 * 365 * 24 * time.Hour

// tokenID is the ID of token i: as random as a real one, and unique.
func tokenID(i uint64) (id token.ID) {
	for half := range 2 {
		x := i*2 + uint64(half) + 1
		x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
		x = (x ^ x>>27) * 0x94d049bb133111eb
		binary.BigEndian.PutUint64(id[8*half:], x^x>>31)
	}
	return id
}

// tokenAt is token i, issued at a moment and valid for ttl.
func tokenAt(i uint64, issued time.Time, ttl time.Duration) token.Summary {
	issued = issued.Truncate(time.Second)
	return token.Summary{TokenID: tokenID(i), IssuedAt: issued, Expiration: issued.Add(ttl)}
}

// newAt makes a guard at a moment, with default limits unless c has some.
func newAt(now time.Time, c replay.Config) (*replay.Guard, error) {
	c.Now = func() time.Time { return now }
	c.Limits.MaxTTL = cmp.Or(c.Limits.MaxTTL, time.Minute)
	c.Limits.ClockSkew = cmp.Or(c.Limits.ClockSkew, 5*time.Second)
	return replay.New(c)
}

// newGuard makes a guard at epoch that accepts what was issued before.
func newGuard(t testing.TB, rate int) *replay.Guard {
	t.Helper()
	g, err := newAt(epoch, replay.Config{Rate: rate, AcceptIssuedBeforeStart: true})
	require.NoError(t, err)
	return g
}

func requireFresh(t testing.TB, g *replay.Guard, now time.Time, tok token.Summary) {
	t.Helper()
	fresh, err := g.Spend(ctx, now, tok)
	if err != nil || !fresh {
		t.Fatalf("Spend of a fresh token = %v, %v", fresh, err)
	}
}

// requireRefused fails if the guard accepts the token.
func requireRefused(t testing.TB, g *replay.Guard, now time.Time, tok token.Summary) {
	t.Helper()
	fresh, err := g.Spend(ctx, now, tok)
	if fresh {
		t.Fatalf("Spend of a token that was spent, at %v = true, %v", now, err)
	}
	if err != nil && !errors.Is(err, token.ErrUnavailable) {
		t.Fatalf("Spend: unexpected error %v", err)
	}
}

func requireError(t testing.TB, g *replay.Guard, now time.Time, tok token.Summary, want error) {
	t.Helper()
	fresh, err := g.Spend(ctx, now, tok)
	if fresh || err != want {
		t.Fatalf("Spend = %v, %v, want false, %v", fresh, err, want)
	}
}

func TestOnce(t *testing.T) {
	g := newGuard(t, 0)
	for i := range uint64(10_000) {
		tok := tokenAt(i, epoch, time.Minute)
		requireFresh(t, g, epoch, tok)
		fresh, err := g.Spend(ctx, epoch, tok)
		require.NoError(t, err)
		require.False(t, fresh)
	}
}

// TestIDs spends IDs that are as unlike random ones as possible.
func TestIDs(t *testing.T) {
	g := newGuard(t, 0)
	ids := []token.ID{{0: 2}, {}, {0: 0xff}, {7: 0x80}, {8: 1}, {0: 2, 8: 1}}
	for _, id := range ids {
		tok := tokenAt(0, epoch, time.Minute)
		tok.TokenID = id
		requireFresh(t, g, epoch, tok)
		requireRefused(t, g, epoch, tok)
	}
}

func TestConfig(t *testing.T) {
	valid := []replay.Config{
		{},
		{Rate: 1, Limits: keyring.Limits{MaxTTL: limits.MinTTL, ClockSkew: time.Second}},
		{Rate: 100, Limits: keyring.Limits{MaxTTL: limits.MaxTTL, ClockSkew: limits.MaxClockSkew}},
	}
	for _, c := range valid {
		_, err := newAt(epoch, c)
		assert.NoError(t, err, "%+v", c)
	}
	for _, tt := range []struct {
		name, field string
		config      replay.Config
	}{
		{"rate negative", "Rate", replay.Config{Rate: -1}},
		{"rate too high", "Rate", replay.Config{Rate: 1<<30/66 + 1}},
		{"rate overflows", "Rate", replay.Config{Rate: math.MaxInt}},
		{"revocations negative", "MaxRevocations", replay.Config{MaxRevocations: -1}},
		{"TTL too short", "Limits.MaxTTL", replay.Config{Limits: keyring.Limits{MaxTTL: limits.MinTTL - time.Second}}},
		{"TTL too long", "Limits.MaxTTL", replay.Config{Limits: keyring.Limits{MaxTTL: limits.MaxTTL + time.Second}}},
		{"TTL negative", "Limits.MaxTTL", replay.Config{Limits: keyring.Limits{MaxTTL: -time.Minute}}},
		{"TTL overflows", "Limits.MaxTTL", replay.Config{Limits: keyring.Limits{MaxTTL: math.MaxInt64}}},
		{"TTL not whole seconds", "Limits.MaxTTL", replay.Config{Limits: keyring.Limits{MaxTTL: time.Minute + 1}}},
		{"skew too small", "Limits.ClockSkew", replay.Config{Limits: keyring.Limits{ClockSkew: time.Millisecond}}},
		{"skew too large", "Limits.ClockSkew", replay.Config{Limits: keyring.Limits{ClockSkew: limits.MaxClockSkew + time.Second}}},
		{"skew negative", "Limits.ClockSkew", replay.Config{Limits: keyring.Limits{ClockSkew: -time.Second}}},
		{"skew not whole seconds", "Limits.ClockSkew", replay.Config{Limits: keyring.Limits{ClockSkew: time.Second + 1}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g, err := newAt(epoch, tt.config)
			require.ErrorContains(t, err, "Config."+tt.field+" ")
			require.Nil(t, g)
		})
	}
}

func TestConfigClock(t *testing.T) {
	for _, tt := range []struct {
		unix int64
		ok   bool
	}{{-1, false}, {0, true}, {limits.MaxUnix, true}, {limits.MaxUnix + 1, false}} {
		_, err := newAt(time.Unix(tt.unix, 0), replay.Config{})
		assert.Equal(t, tt.ok, err == nil, "%d: %v", tt.unix, err)
	}
}

func TestDefaults(t *testing.T) {
	g, err := newAt(epoch, replay.Config{})
	require.NoError(t, err)
	assert.Equal(t, replay.DefaultRate*66, g.Stats(epoch).Capacity)
}

func TestZeroGuardRefuses(t *testing.T) {
	tok := tokenAt(1, epoch, time.Minute)
	var nilGuard *replay.Guard
	requireRefused(t, nilGuard, epoch, tok)
	requireRefused(t, new(replay.Guard), epoch, tok)
	assert.Zero(t, nilGuard.Stats(epoch))
	assert.Zero(t, new(replay.Guard).Stats(epoch))
	assert.Equal(t, nilGuard.ReadyAt(), new(replay.Guard).ReadyAt())
}

func TestErrors(t *testing.T) {
	for _, err := range []error{replay.ErrFull, replay.ErrBeforeStart, replay.ErrForgotten, replay.ErrTooLong} {
		assert.ErrorIs(t, err, token.ErrUnavailable)
		assert.NotErrorIs(t, err, token.ErrRevoked)
		assert.Equal(t, token.TryLater, token.Action(err))
	}
}

// TestEdges spends tokens of every bucket, twice around, and tries them again
// at all moments at which something changes.
func TestEdges(t *testing.T) {
	const ttl = 10 * time.Second
	again := []time.Duration{ // after the token was issued
		0, 1, time.Second, 2 * time.Second,
		ttl - time.Second - 1, ttl - time.Second, ttl - time.Second + 1,
		ttl - 1, ttl, ttl + 1,
		ttl + time.Second - 1, ttl + time.Second, ttl + time.Second + 1,
		128*time.Second - 1, 128 * time.Second, ttl + 128*time.Second,
	}
	g := newGuard(t, 10)
	n := uint64(0)
	for second := range time.Duration(256) {
		issued := epoch.Add(second * time.Second)
		for _, after := range again {
			n++
			tok := tokenAt(n, issued, ttl)
			requireFresh(t, g, issued, tok)
			requireRefused(t, g, issued.Add(after), tok)
			requireRefused(t, g, issued, tok)
			// A time when no other token expires.
			g = newGuard(t, 10)
		}
	}
}

func TestExpiration(t *testing.T) {
	const ttl = time.Minute // as configured, and a skew of five seconds
	expiration := epoch.Add(ttl)
	for i, tt := range []struct {
		name string
		at   time.Duration // after expiration
		ttl  time.Duration
		want error
	}{
		{"in time", -1, ttl, nil},
		{"at expiration", 0, ttl, replay.ErrForgotten},
		{"after it", 1, ttl, replay.ErrForgotten},
		{"long after it", time.Hour, ttl, replay.ErrForgotten},
		{"issued ahead by the skew", -65 * time.Second, ttl, nil},
		{"issued further ahead", -65*time.Second - 1, ttl, replay.ErrTooLong},
		{"issued an hour ahead", -time.Hour, ttl, replay.ErrTooLong},
		{"longer than configured", -66 * time.Second, ttl + 6*time.Second, nil},
		{"longer than remembered", -66*time.Second - 1, ttl + 7*time.Second, replay.ErrTooLong},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := newGuard(t, 10)
			tok := tokenAt(uint64(i), expiration.Add(-tt.ttl), tt.ttl)
			fresh, err := g.Spend(ctx, expiration.Add(tt.at), tok)
			assert.Equal(t, tt.want, err)
			assert.Equal(t, tt.want == nil, fresh)
		})
	}
}

// TestExtremes uses impossible times: nothing panics, and nothing is accepted
// twice.
func TestExtremes(t *testing.T) {
	seconds := []int64{math.MinInt64, -1 << 40, -1, 0, 1, 1 << 31, 1 << 32, limits.MaxUnix, math.MaxInt64}
	for _, now := range seconds {
		for _, expiration := range seconds {
			g := newGuard(t, 10)
			tok := token.Summary{IssuedAt: epoch, Expiration: time.Unix(expiration, 0)}
			_, _ = g.Spend(ctx, time.Unix(now, 0), tok)
			requireRefused(t, g, time.Unix(now, 0), tok)
		}
	}
}

func TestFull(t *testing.T) {
	const rate = 100
	for _, tt := range []struct {
		name string
		ttl  func(i int) time.Duration
	}{
		{"spread", func(i int) time.Duration { return time.Duration(5+i%56) * time.Second }},
		{"in one second", func(int) time.Duration { return time.Minute }},
		// A later bucket would make room; this one must not.
		{"as late as can be", func(int) time.Duration { return 66 * time.Second }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := newGuard(t, rate)
			capacity := g.Stats(epoch).Capacity
			require.Equal(t, rate*66, capacity)
			accepted := 0
			for i := range 2 * capacity {
				fresh, err := g.Spend(ctx, epoch, tokenAt(uint64(i), epoch, tt.ttl(i)))
				if fresh {
					accepted++
				} else {
					require.Equal(t, replay.ErrFull, err)
					require.GreaterOrEqual(t, accepted, capacity, "full too early")
				}
			}
			st := g.Stats(epoch)
			assert.Equal(t, accepted, st.Live)
			assert.EqualValues(t, accepted, st.Fresh)
			assert.EqualValues(t, 2*capacity-accepted, st.Full)

			// Nothing was evicted, so nothing is accepted.
			for i := range 2 * capacity {
				requireRefused(t, g, epoch, tokenAt(uint64(i), epoch, tt.ttl(i)))
			}

			later := epoch.Add(66 * time.Second)
			assert.Zero(t, g.Stats(later).Live)
			for i := range capacity {
				requireFresh(t, g, later, tokenAt(uint64(i)+1e6, later, tt.ttl(i)))
			}
		})
	}
}

// TestShardCapacity computes the probability that a guard refuses although it
// holds fewer tokens than its capacity. The number of tokens in one of many
// shards is close to Poisson distributed.
func TestShardCapacity(t *testing.T) {
	for capacity := 11; capacity <= 1<<30; capacity += capacity/5 + 1 {
		shards := replay.ShardCount(capacity)
		mean := float64(capacity) / float64(shards)
		k := float64(replay.ShardCapacity(capacity, shards)) + 1
		// The terms from k on. Each is at most mean/k of the one
		// before.
		logFactorial, _ := math.Lgamma(k + 1)
		tail := math.Exp(k*math.Log(mean)-mean-logFactorial) / (1 - mean/k)
		if p := tail * float64(shards); p > 1e-8 {
			t.Errorf("capacity %d in %d shards: %g", capacity, shards, p)
		}
	}
}

// TestBurst fills a guard within one second, with more tokens in a bucket than
// one table takes. Before that, in a minute, every bucket of every shard got
// some. Nothing else takes more memory.
func TestBurst(t *testing.T) {
	if testing.Short() || testenv.Race {
		t.Skip("millions of tokens")
	}
	const rate = 36_000
	g := newGuard(t, rate)
	capacity := g.Stats(epoch).Capacity
	require.Greater(t, capacity/64, replay.MaxTable, "tokens in a shard")
	ttl := func(i int) time.Duration { return time.Duration(max(5, 60-i/500)) * time.Second }
	for i := range capacity {
		requireFresh(t, g, epoch, tokenAt(uint64(i), epoch, ttl(i)))
	}
	for i := range capacity {
		requireRefused(t, g, epoch, tokenAt(uint64(i), epoch, ttl(i)))
	}
	assert.LessOrEqual(t, g.Stats(epoch).Bytes, 36*capacity)
	assert.Equal(t, replay.MaxTable, g.LargestTable())
}

// TestBurstInOneShard puts more tokens in one bucket than a table takes.
func TestBurstInOneShard(t *testing.T) {
	const tokens = replay.MaxTable
	g := newGuard(t, 40_000) // a shard takes more than that
	tok := func(i int) token.Summary {
		tok := tokenAt(uint64(i), epoch, time.Minute)
		clear(tok.TokenID[8:])
		return tok
	}
	for i := range tokens {
		requireFresh(t, g, epoch, tok(i))
	}
	for i := range tokens {
		requireRefused(t, g, epoch, tok(i))
	}
	assert.Equal(t, tokens, g.Stats(epoch).Live)
	assert.Equal(t, replay.MaxTable, g.LargestTable())
}

// TestMemory fills and drains guards ten times, and compares what they say they
// hold with what they hold.
func TestMemory(t *testing.T) {
	spread := func(i int) time.Duration { return time.Duration(1+i%60) * time.Second }
	// Some for each second, then all the others in one.
	bursts := func(i int) time.Duration { return time.Duration(max(5, 60-i/500)) * time.Second }
	for _, tt := range []struct {
		name  string
		rate  int
		ttl   func(i int) time.Duration
		most  int // bytes for each token of the capacity
		fixed int // bytes
	}{
		{"small", 10, spread, 20, 1 << 18},
		{"medium", 3_000, spread, 20, 1 << 20},
		{"bursts", 3_000, bursts, 36, 1 << 20},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := heap()
			g := newGuard(t, tt.rate)
			capacity := g.Stats(epoch).Capacity
			var first replay.Stats
			var firstHeap int
			for round := range 10 {
				start := epoch.Add(time.Duration(round) * 10 * time.Minute)
				for i := range capacity {
					requireFresh(t, g, start, tokenAt(uint64(round*capacity+i), start, tt.ttl(i)))
				}
				st, inUse := g.Stats(start), heap()-before
				if round == 0 {
					first, firstHeap = st, inUse
				}
				assert.Equal(t, capacity, st.Live)
				assert.Zero(t, g.Stats(start.Add(time.Minute)).Live)
				assert.InEpsilon(t, first.Bytes, st.Bytes, 0.05, "round %d", round)
				assert.InDelta(t, firstHeap, inUse, 0.05*float64(firstHeap)+heapNoise, "round %d", round)
				assert.InDelta(t, st.Bytes, inUse, 0.05*float64(st.Bytes)+heapNoise, "round %d", round)
				assert.LessOrEqual(t, st.Bytes, tt.most*capacity+tt.fixed)
			}
			runtime.KeepAlive(g)
		})
	}
}

// TestMemoryOfNew makes guards for very many tokens, and spends none.
func TestMemoryOfNew(t *testing.T) {
	for _, rate := range []int{1, 10_000, 14_153, 20_000, 60_000} {
		g, err := newAt(epoch, replay.Config{Rate: rate, Limits: keyring.Limits{MaxTTL: 10 * time.Minute, ClockSkew: time.Second}})
		require.NoError(t, err)
		st := g.Stats(epoch)
		assert.LessOrEqual(t, st.Bytes, max(st.Capacity, 15<<20), "rate %d", rate)
	}
}

// TestMemoryEvenly uses rates that give tables of the worst size for their
// contents.
func TestMemoryEvenly(t *testing.T) {
	if testing.Short() || testenv.Race {
		t.Skip("millions of tokens")
	}
	for _, tt := range []struct{ rate, seconds, fixed int }{{8_319, 60, 2 << 20}, {4_001, 600, 15 << 20}} {
		g, err := newAt(epoch, replay.Config{
			Rate: tt.rate, Limits: keyring.Limits{MaxTTL: time.Duration(tt.seconds) * time.Second, ClockSkew: time.Second}, AcceptIssuedBeforeStart: true,
		})
		require.NoError(t, err)
		for i := range tt.rate * tt.seconds {
			requireFresh(t, g, epoch, tokenAt(uint64(i), epoch, time.Duration(1+i%tt.seconds)*time.Second))
		}
		st := g.Stats(epoch)
		assert.LessOrEqual(t, st.Bytes, 20*st.Capacity+tt.fixed, "rate %d", tt.rate)
		assert.Greater(t, st.Bytes, 20*st.Capacity+tt.fixed/2, "rate %d", tt.rate)
	}
}

// TestMemoryIsNotHoarded fills a guard in ways that need tables of very
// different sizes. The tables of one must make way for the next.
func TestMemoryIsNotHoarded(t *testing.T) {
	g := newGuard(t, 3_000)
	capacity := g.Stats(epoch).Capacity
	for round, seconds := range []int{60, 1, 60, 1, 7, 60, 13} {
		start := epoch.Add(time.Duration(round) * 10 * time.Minute)
		for i := range capacity {
			ttl := time.Duration(60-i%seconds) * time.Second
			requireFresh(t, g, start, tokenAt(uint64(round*capacity+i), start, ttl))
		}
		assert.LessOrEqual(t, g.Stats(start).Bytes, 20*capacity+1<<20, "spread over %d seconds", seconds)
	}
}

// heapNoise is what the heap grows by in spans that are not full, and in the
// lists of a guard's idle tables.
const heapNoise = 1 << 18

func heap() int {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int(m.HeapInuse)
}

func TestStats(t *testing.T) {
	g, err := newAt(epoch, replay.Config{Rate: 1})
	require.NoError(t, err)
	now := g.ReadyAt()
	old := tokenAt(1, now, 5*time.Second)
	requireFresh(t, g, now, old)
	requireRefused(t, g, now, old)
	requireError(t, g, epoch, tokenAt(2, epoch, 5*time.Second), replay.ErrBeforeStart)
	requireError(t, g, now, tokenAt(3, now, time.Hour), replay.ErrTooLong)
	now = now.Add(5 * time.Second)
	requireError(t, g, now, old, replay.ErrForgotten)
	requireFresh(t, g, now, tokenAt(4, now, 5*time.Second))

	st := g.Stats(now)
	assert.Positive(t, st.Bytes)
	st.Bytes = 0
	assert.Equal(t, replay.Stats{
		Live: 1, Capacity: 66, Fresh: 2,
		Spent: 1, BeforeStart: 1, Forgotten: 1, TooLong: 1,
		Revocations: replay.RevocationStats{MaxEntries: replay.DefaultMaxRevocations},
	}, st)
}

// TestRace lets 64 goroutines race for each of 100,000 tokens, or fewer with
// the race detector.
func TestRace(t *testing.T) {
	const goroutines = 64
	tokens := 100_000
	switch {
	case testing.Short():
		tokens = 10_000
	case testenv.Race:
		tokens = 40_000
	}
	g := newGuard(t, tokens/60)
	winners := make([]atomic.Int32, tokens)
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			for i := range winners {
				fresh, err := g.Spend(ctx, epoch, tokenAt(uint64(i), epoch, time.Duration(5+i%56)*time.Second))
				if err != nil {
					t.Error(err)
					return
				}
				if fresh {
					winners[i].Add(1)
				}
			}
		})
	}
	wg.Wait()
	for i := range winners {
		if n := winners[i].Load(); n != 1 {
			t.Fatalf("token %d was accepted %d times", i, n)
		}
	}
	assert.EqualValues(t, tokens, g.Stats(epoch).Fresh)
}

// TestRaceInStep lets two goroutines spend each token at the same moment, as
// nearly as they can. Sixty-four that run freely seldom meet.
func TestRaceInStep(t *testing.T) {
	tokens := 20_000
	if testenv.Race {
		tokens = 2_000 // to meet once is enough
	}
	g := newGuard(t, tokens/30)
	var winners, arrived atomic.Int64
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for i := range int64(tokens) {
				arrived.Add(1)
				for spins := 0; arrived.Load() < 2*(i+1); spins++ {
					if spins > 1000 {
						// The other may need this
						// processor.
						runtime.Gosched()
					}
				}
				if fresh, _ := g.Spend(ctx, epoch, tokenAt(uint64(i), epoch, time.Duration(5+i%56)*time.Second)); fresh {
					winners.Add(1)
				}
			}
		})
	}
	wg.Wait()
	assert.EqualValues(t, tokens, winners.Load())
	assert.EqualValues(t, tokens, g.Stats(epoch).Fresh)
}

func TestAllocs(t *testing.T) {
	testenv.SkipAllocs(t)
	g, err := newAt(epoch, replay.Config{Rate: 1000})
	require.NoError(t, err)
	now := g.ReadyAt()
	n := uint64(0)
	churn := func() {
		n++
		if n%1000 == 0 {
			now = now.Add(time.Second)
		}
		requireFresh(t, g, now, tokenAt(n, now, time.Minute))
	}
	for range 200_000 {
		churn()
	}
	full := newGuard(t, 1)
	for i := range uint64(2000) {
		_, _ = full.Spend(ctx, epoch, tokenAt(i, epoch, time.Minute))
	}
	require.NotZero(t, full.Stats(epoch).Full)
	refused := func(g *replay.Guard, tok token.Summary) func() {
		return func() { requireRefused(t, g, now, tok) }
	}
	fullNow := func() {
		n++
		_, _ = full.Spend(ctx, epoch, tokenAt(n+1e6, epoch, time.Minute))
	}
	for _, tt := range []struct {
		name string
		f    func()
	}{
		{"fresh", churn},
		{"spent", refused(g, tokenAt(n, now, time.Minute))},
		{"full", fullNow},
		{"before start", refused(g, tokenAt(0, epoch, time.Minute))},
		{"too long", refused(g, tokenAt(0, now, time.Hour))},
		{"forgotten", refused(g, tokenAt(0, now.Add(-time.Minute), time.Minute))},
		{"stats", func() { g.Stats(now) }},
	} {
		if got := testing.AllocsPerRun(10_000, tt.f); got != 0 {
			t.Errorf("%s: %v allocations", tt.name, got)
		}
	}
}
