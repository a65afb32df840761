package bench_test

import (
	"context"
	"encoding/binary"
	"math/bits"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/replay"
	"github.com/seed17cb2b26/chattoken/token"
)

// The benchmarks of the guard hold a million or eight million spent tokens in
// memory and spend more of them:
//
//	fresh     fresh ones, which expire all over the next minute
//	replay    spent ones, in random order
//	churn     fresh ones as a gateway sees them, issued within the last four
//	          seconds, while the clock runs and as many expire as are spent
//	parallel  churn on all processors
//
// The baselines are what one would write by hand: a bare table of 64-bit keys
// that is not locked, does not expire and is large enough from the start; a map
// in each of 256 shards; a sync.Map. Their rows are to be compared with those
// of the guard from the same run.

var guardSizes = []struct {
	name   string
	tokens uint64
}{
	{"1M", 1_000_000},
	{"8M", 8_000_000},
}

const (
	tokenTTL = 60 // seconds
	tokenAge = 3  // seconds from when a token is issued to when it is spent, at most
)

var benchStart = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// spender is a guard in the making: spend uses up token number i.
type spender interface{ spend(i uint64) (fresh bool) }

// mix is the finalizer of splitmix64, a bijection that looks random.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func benchID(i uint64) (id token.ID) {
	binary.LittleEndian.PutUint64(id[:8], mix(i+1))
	binary.LittleEndian.PutUint64(id[8:], mix(^i))
	return id
}

// memoryGuard is the subject. Token number i is spent at tick(i), and expires
// up to a token's life later.
type memoryGuard struct {
	*replay.Guard
	tick func(i uint64) (now, expiration int64)
}

func (g memoryGuard) spend(i uint64) bool {
	now, expiration := g.tick(i)
	fresh, _ := g.Spend(context.Background(), time.Unix(now, 0), token.Summary{
		TokenID:    benchID(i),
		IssuedAt:   time.Unix(expiration-tokenTTL, 0),
		Expiration: time.Unix(expiration, 0),
	})
	return fresh
}

// newGuard makes a guard for n live tokens and an eighth more.
func newGuard(b *testing.B, n uint64, tick func(uint64) (now, expiration int64)) memoryGuard {
	const lifetime = 60 + 5 + 1
	g, err := replay.New(replay.Config{
		Limits:                  keyring.Limits{MaxTTL: time.Minute, ClockSkew: 5 * time.Second},
		Now:                     func() time.Time { return benchStart },
		Rate:                    int(n+n/8) / lifetime,
		AcceptIssuedBeforeStart: true,
	})
	if err != nil {
		b.Fatal(err)
	}
	return memoryGuard{g, tick}
}

// standing is a clock that does not run.
func standing(i uint64) (now, expiration int64) {
	now = benchStart.Unix()
	return now, now + 1 + int64(i%tokenTTL)
}

// running is a clock by which n tokens are alive at a time.
func running(n uint64) func(i uint64) (now, expiration int64) {
	return func(i uint64) (now, expiration int64) {
		now = benchStart.Unix() + int64(i*(tokenTTL-tokenAge/2)/n)
		return now, now + tokenTTL - int64(mix(i)%(tokenAge+1))
	}
}

func BenchmarkGuard(b *testing.B) {
	crowds := make(map[uint64]*crowd)
	parallel := func(b *testing.B, n uint64) {
		if crowds[n] == nil {
			crowds[n] = newCrowd(b, n)
			b.ResetTimer()
		}
		crowds[n].run(b)
	}
	for _, bm := range []struct {
		name string
		run  func(b *testing.B, n uint64)
	}{
		{"fresh", func(b *testing.B, n uint64) {
			benchFresh(b, n, func() spender { return newGuard(b, n, standing) })
		}},
		{"replay", func(b *testing.B, n uint64) { benchReplay(b, n, newGuard(b, n, standing)) }},
		{"churn", benchChurn},
		{"parallel", parallel},
	} {
		b.Run(bm.name, func(b *testing.B) { eachSize(b, bm.run) })
	}
}

func BenchmarkGuardBaseline(b *testing.B) {
	for _, bm := range []struct {
		name  string
		build func(n uint64) spender
	}{
		{"flat-table", newFlatTable},
		{"mutex-map", func(uint64) spender { return newMutexMap() }},
		{"sync-map", func(uint64) spender { return new(syncMap) }},
	} {
		b.Run(bm.name, func(b *testing.B) {
			b.Run("fresh", func(b *testing.B) {
				eachSize(b, func(b *testing.B, n uint64) {
					benchFresh(b, n, func() spender { return bm.build(n) })
				})
			})
			b.Run("replay", func(b *testing.B) {
				eachSize(b, func(b *testing.B, n uint64) { benchReplay(b, n, bm.build(n)) })
			})
		})
	}
}

func eachSize(b *testing.B, run func(b *testing.B, n uint64)) {
	for _, size := range guardSizes {
		b.Run(size.name, func(b *testing.B) {
			if testing.Short() && size.tokens > 1_000_000 {
				b.Skip("takes a gigabyte")
			}
			b.ReportAllocs()
			run(b, size.tokens)
		})
	}
}

// benchChurn begins when the guard has been running for two minutes.
func benchChurn(b *testing.B, n uint64) {
	g, m := fillMeasured(b, n, 2*n, func() spender { return newGuard(b, n, running(n)) })
	i := 2 * n
	for b.Loop() {
		if !g.spend(i) {
			b.Fatal("a fresh token was refused")
		}
		i++
	}
	m.report(b)
}

// benchFresh starts over whenever there is an eighth more than n, so that what
// it reports is the cost at n.
func benchFresh(b *testing.B, n uint64, build func() spender) {
	g, m := fillMeasured(b, n, n, build)
	i := n
	for b.Loop() {
		if i == n+n/8 {
			b.StopTimer()
			g, i = build(), n
			fill(b, g, n)
			b.StartTimer()
		}
		if !g.spend(i) {
			b.Fatal("a fresh token was refused")
		}
		i++
	}
	m.report(b)
}

func benchReplay(b *testing.B, n uint64, g spender) {
	fill(b, g, n)
	i := uint64(0)
	for b.Loop() {
		i++
		if g.spend(mix(i) % n) {
			b.Fatal("a spent token was accepted")
		}
	}
}

// crowd is a guard that is spent from by many goroutines. The testing package
// calls a parallel benchmark several times, and filling it takes seconds.
type crowd struct {
	guard memoryGuard
	next  atomic.Uint64
}

func newCrowd(b *testing.B, n uint64) *crowd {
	c := &crowd{guard: newGuard(b, n, running(n))}
	fill(b, c.guard, 2*n)
	c.next.Store(2 * n)
	return c
}

func (c *crowd) run(b *testing.B) {
	const batch = 1024 // so that the counter is not what is measured
	b.RunParallel(func(pb *testing.PB) {
		var i, end uint64
		for pb.Next() {
			if i == end {
				end = c.next.Add(batch)
				i = end - batch
			}
			// Not checked: here a token lives for a fraction of a second, and
			// who is held up for that long is refused, as it should be.
			c.guard.spend(i)
			i++
		}
	})
}

func fill(b *testing.B, g spender, n uint64) {
	for i := range n {
		if !g.spend(i) {
			b.Fatal("a fresh token was refused while filling")
		}
	}
}

// measures is what a guard with n tokens costs beside the time to spend one.
type measures struct {
	bytes      float64       // per token
	longest    time.Duration // of all insertions, as far as the machine lets one see
	collection time.Duration // a full garbage collection
	pause      time.Duration // in which it stopped the world
}

// fillMeasured makes a guard and spends the first tokens of it, so that n are
// alive.
func fillMeasured(b *testing.B, n, tokens uint64, build func() spender) (spender, measures) {
	var m measures
	var before, after, collected runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	g := build()
	last := time.Now()
	for i := range tokens {
		if !g.spend(i) {
			b.Fatal("a fresh token was refused while filling")
		}
		now := time.Now()
		m.longest = max(m.longest, now.Sub(last))
		last = now
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	m.bytes = float64(after.HeapAlloc-before.HeapAlloc) / float64(n)
	begin := time.Now()
	runtime.GC()
	m.collection = time.Since(begin)
	runtime.ReadMemStats(&collected)
	m.pause = time.Duration(collected.PauseTotalNs - after.PauseTotalNs)
	runtime.KeepAlive(g)
	return g, m
}

func (m measures) report(b *testing.B) {
	b.ReportMetric(m.bytes, "B/token")
	b.ReportMetric(float64(m.longest), "longest-ns")
	b.ReportMetric(float64(m.collection), "gc-ns")
	b.ReportMetric(float64(m.pause), "pause-ns")
}

// flatTable is open addressing with linear probing and nothing else.
type flatTable []uint64

func newFlatTable(n uint64) spender {
	return make(flatTable, 1<<bits.Len64(2*n-1))
}

func (t flatTable) spend(i uint64) bool {
	id := benchID(i)
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

func newMutexMap() *mutexMap {
	m := new(mutexMap)
	for i := range m {
		m[i].spent = make(map[token.ID]int64)
	}
	return m
}

func (m *mutexMap) spend(i uint64) bool {
	id := benchID(i)
	_, expiration := standing(i)
	shard := &m[id[15]]
	shard.mu.Lock()
	defer shard.mu.Unlock()
	if _, spent := shard.spent[id]; spent {
		return false
	}
	shard.spent[id] = expiration
	return true
}

type syncMap struct{ m sync.Map }

func (s *syncMap) spend(i uint64) bool {
	_, expiration := standing(i)
	_, spent := s.m.LoadOrStore(benchID(i), expiration)
	return !spent
}
