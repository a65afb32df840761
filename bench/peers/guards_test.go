package peers_test

import (
	"context"
	"encoding/binary"
	"math/bits"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/coocood/freecache"
	"github.com/dgraph-io/ristretto/v2"
	"github.com/hashicorp/golang-lru/v2/expirable"
	"github.com/jellydator/ttlcache/v3"
	"github.com/maypok86/otter/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/replay"
	"github.com/seed17cb2b26/chattoken/token"
)

// A spender uses tokens up: at most one call with an ID may return true.
type spender interface {
	spend(id token.ID) (fresh bool)
}

// A guardPeer makes a store for spent tokens. It has room for n tokens, and
// needn't forget any in the time spentFor.
type guardPeer struct {
	name string
	make func(t testing.TB, n int) spender
}

// boundedGuards take any number of tokens, but may forget some.
var boundedGuards = []guardPeer{
	{"chattoken", newReplay},
	{"freecache", newFreecache},
	{"golang-lru", newGolangLRU},
	{"otter", newOtter},
	{"ristretto", newRistretto},
	{"ttlcache", newTTLCache},
}

// guards are all. Those added here forget nothing and are never full.
var guards = append(slices.Clip(boundedGuards),
	guardPeer{"flat-table", newFlatTable},
	guardPeer{"mutex-map", func(testing.TB, int) spender { return new(mutexMap) }},
	guardPeer{"sync-map", func(testing.TB, int) spender { return new(syncMap) }},
)

// spentFor is how long to remember a token, longer than any benchmark.
const spentFor = 10 * time.Minute

// replayGuard is this library's guard.
type replayGuard struct {
	guard *replay.Guard
	now   time.Time
}

func newReplay(t testing.TB, n int) spender {
	const lifetime = 60 + 5 + 1 // seconds: the defaults of validity and clock skew, and one
	now := time.Now().Truncate(time.Second)
	guard, err := replay.New(replay.Config{
		Limits:                  keyring.Limits{MaxTTL: time.Minute, ClockSkew: 5 * time.Second},
		Rate:                    n/lifetime + 1,
		AcceptIssuedBeforeStart: true,
	})
	require.NoError(t, err)
	return replayGuard{guard, now}
}

// All calls of spend have the same time. The tokens expire all over a minute.
func (g replayGuard) spend(id token.ID) bool {
	left := 1 + time.Duration(binary.LittleEndian.Uint16(id[14:]))%60
	fresh, _ := g.guard.Spend(context.Background(), g.now, token.Summary{
		TokenID:    id,
		IssuedAt:   g.now,
		Expiration: g.now.Add(left * time.Second),
	})
	return fresh
}

type freecacheGuard struct{ cache *freecache.Cache }

func newFreecache(_ testing.TB, n int) spender {
	const entry = 64 // bytes: header, key, value, and some to spare in each segment
	return freecacheGuard{freecache.NewCache(n * entry)}
}

func (g freecacheGuard) spend(id token.ID) bool {
	before, err := g.cache.GetOrSet(id[:], []byte{1}, int(spentFor/time.Second))
	return err == nil && before == nil
}

// golangLRU needs a lock, because it can't add only what is absent.
type golangLRU struct {
	mu  sync.Mutex
	lru *expirable.LRU[token.ID, struct{}]
}

func newGolangLRU(_ testing.TB, n int) spender {
	return &golangLRU{lru: expirable.NewLRU[token.ID, struct{}](n, nil, spentFor)}
}

func (g *golangLRU) spend(id token.ID) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.lru.Contains(id) {
		return false
	}
	g.lru.Add(id, struct{}{})
	return true
}

type otterGuard struct {
	cache *otter.Cache[token.ID, struct{}]
}

func newOtter(t testing.TB, n int) spender {
	cache, err := otter.New(&otter.Options[token.ID, struct{}]{
		MaximumSize:      n,
		ExpiryCalculator: otter.ExpiryCreating[token.ID, struct{}](spentFor),
	})
	require.NoError(t, err)
	return otterGuard{cache}
}

func (g otterGuard) spend(id token.ID) bool {
	_, fresh := g.cache.SetIfAbsent(id, struct{}{})
	return fresh
}

// ristrettoGuard needs a lock, because it can't add only what is absent.
type ristrettoGuard struct {
	mu    sync.Mutex
	cache *ristretto.Cache[uint64, struct{}]
}

func newRistretto(t testing.TB, n int) spender {
	cache, err := ristretto.NewCache(&ristretto.Config[uint64, struct{}]{
		NumCounters:        10 * int64(n),
		MaxCost:            int64(n),
		BufferItems:        64,
		IgnoreInternalCost: true,
	})
	require.NoError(t, err)
	t.Cleanup(cache.Close)
	return &ristrettoGuard{cache: cache}
}

func (g *ristrettoGuard) spend(id token.ID) bool {
	key := binary.LittleEndian.Uint64(id[:8])
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, spent := g.cache.Get(key); spent {
		return false
	}
	g.cache.SetWithTTL(key, struct{}{}, 1, spentFor)
	return true
}

type ttlcacheGuard struct {
	cache *ttlcache.Cache[token.ID, struct{}]
}

func newTTLCache(_ testing.TB, n int) spender {
	return ttlcacheGuard{ttlcache.New(
		ttlcache.WithTTL[token.ID, struct{}](spentFor),
		ttlcache.WithCapacity[token.ID, struct{}](uint64(n)),
		ttlcache.WithDisableTouchOnHit[token.ID, struct{}](),
	)}
}

func (g ttlcacheGuard) spend(id token.ID) bool {
	_, spent := g.cache.GetOrSet(id, struct{}{})
	return !spent
}

// flatTable is open addressing with linear probing and nothing else: no lock,
// no expiration, and large enough from the start.
type flatTable []uint64

func newFlatTable(_ testing.TB, n int) spender { return make(flatTable, 1<<bits.Len(uint(n+n/2))) }

func (t flatTable) spend(id token.ID) bool {
	key := binary.LittleEndian.Uint64(id[:8])
	mask := uint64(len(t) - 1)
	for at := key & mask; ; at = (at + 1) & mask {
		switch t[at] {
		case key:
			return false
		case 0:
			t[at] = key
			return true
		}
	}
}

// mutexMap is a map in each of 256 shards.
type mutexMap [256]struct {
	mu    sync.Mutex
	spent map[token.ID]int64
	_     [48]byte
}

func (m *mutexMap) spend(id token.ID) bool {
	shard := &m[id[15]]
	shard.mu.Lock()
	defer shard.mu.Unlock()
	if _, spent := shard.spent[id]; spent {
		return false
	}
	if shard.spent == nil {
		shard.spent = make(map[token.ID]int64)
	}
	shard.spent[id] = int64(spentFor)
	return true
}

type syncMap struct{ m sync.Map }

func (s *syncMap) spend(id token.ID) bool {
	_, spent := s.m.LoadOrStore(id, int64(spentFor))
	return !spent
}

// tokenID returns the ID of token number i. It looks random: mix is the
// finalizer of splitmix64, a bijection.
func tokenID(i int) (id token.ID) {
	binary.LittleEndian.PutUint64(id[:8], mix(uint64(i)+1))
	binary.LittleEndian.PutUint64(id[8:], mix(^uint64(i)))
	return id
}

func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// fill spends n tokens once. It returns how long the slowest took.
func fill(t testing.TB, s spender, n int) (longest time.Duration) {
	last := time.Now()
	for i := range n {
		if !s.spend(tokenID(i)) {
			t.Fatal("a fresh token was refused")
		}
		now := time.Now()
		longest = max(longest, now.Sub(last))
		last = now
	}
	return longest
}

// acceptedReplays spends the first n tokens a second time.
func acceptedReplays(s spender, n int) int {
	accepted := 0
	for i := range n {
		if s.spend(tokenID(i)) {
			accepted++
		}
	}
	return accepted
}

// acceptedAfterFlood is the share of tokens that s accepts twice after twice as
// many as it has room for.
func acceptedAfterFlood(s spender, room int) float64 {
	first := make([]bool, 2*room)
	spent, again := 0, 0
	for i := range first {
		first[i] = s.spend(tokenID(i))
	}
	for i := range first {
		if first[i] {
			spent++
			if s.spend(tokenID(i)) {
				again++
			}
		}
	}
	return float64(again) / float64(spent)
}

func TestGuardPeers(t *testing.T) {
	const n = 10_000
	for _, tt := range guards {
		s := tt.make(t, n+n/4)
		fill(t, s, n)
		accepted := acceptedReplays(s, n)
		t.Logf("%-10s accepted %d of %d replays", tt.name, accepted, n)
		if tt.name == "chattoken" {
			assert.Zero(t, accepted)
		}
	}
	for _, tt := range boundedGuards {
		flooded := acceptedAfterFlood(tt.make(t, n), n)
		t.Logf("%-10s accepted %.0f%% when full", tt.name, 100*flooded)
		if tt.name == "chattoken" {
			assert.Zero(t, flooded)
		}
	}
}

// GuardFlood counts. It measures no time.
func BenchmarkGuardFlood(b *testing.B) {
	const room = 100_000
	for _, bm := range boundedGuards {
		b.Run("lib="+bm.name, func(b *testing.B) {
			var accepted float64
			for b.Loop() {
				accepted = acceptedAfterFlood(bm.make(b, room), room)
			}
			b.ReportMetric(100*accepted, "%accepted")
		})
	}
}

// Guard spends tokens when n are spent already and a quarter more fit: first
// some of those n again, then fresh ones.
func BenchmarkGuard(b *testing.B) {
	for _, bm := range guards {
		for _, size := range []struct {
			name string
			n    int
		}{{"1M", 1_000_000}, {"8M", 8_000_000}} {
			b.Run("lib="+bm.name+"/tokens="+size.name, func(b *testing.B) {
				if testing.Short() && size.n > 1_000_000 {
					b.Skip("takes gigabytes")
				}
				benchGuard(b, size.n, func() spender { return bm.make(b, size.n+size.n/4) })
			})
		}
	}
}

func benchGuard(b *testing.B, n int, make func() spender) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	s := make()
	longest := fill(b, s, n)
	runtime.GC()
	runtime.ReadMemStats(&after)
	tried := min(n, 1_000_000)
	accepted := acceptedReplays(s, tried)
	b.Run("op=replay", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			s.spend(tokenID(int(mix(uint64(i)) % uint64(n))))
		}
		b.ReportMetric(100*float64(accepted)/float64(tried), "%accepted")
	})
	b.Run("op=fresh", func(b *testing.B) {
		b.ReportAllocs()
		for i := n; b.Loop(); i++ {
			if i == n+n/8 {
				b.StopTimer()
				s, i = make(), n
				fill(b, s, n)
				b.StartTimer()
			}
			s.spend(tokenID(i))
		}
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(n), "B/token")
		b.ReportMetric(float64(longest), "longest-ns")
	})
}
