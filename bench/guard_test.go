package bench_test

import (
	"context"
	"encoding/binary"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/replay"
	"github.com/seed17cb2b26/chattoken/token"
)

const (
	tokenTTL = 60 // seconds
	tokenAge = 3  // seconds from when a token is issued to when it is spent, at most
)

var benchStart = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// mix is the finalizer of splitmix64, a bijection that looks random.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// fullGuard is a guard, with a clock by which n tokens are alive at a time.
type fullGuard struct {
	*replay.Guard
	n uint64
}

// newFullGuard makes a guard that has been running for two minutes.
func newFullGuard(b *testing.B, n uint64) fullGuard {
	b.Helper()
	const lifetime = tokenTTL + 5 + 1
	guard, err := replay.New(replay.Config{
		Limits:                  keyring.Limits{MaxTTL: tokenTTL * time.Second, ClockSkew: 5 * time.Second},
		Now:                     func() time.Time { return benchStart },
		Rate:                    int(n+n/8) / lifetime,
		AcceptIssuedBeforeStart: true,
	})
	check(b, err)
	g := fullGuard{guard, n}
	for i := range 2 * n {
		g.mustSpend(b, i)
	}
	return g
}

// spend spends token number i, issued a few seconds ago. The clock runs with i.
func (g fullGuard) spend(i uint64) bool {
	var id token.ID
	binary.LittleEndian.PutUint64(id[:8], mix(i+1))
	binary.LittleEndian.PutUint64(id[8:], mix(^i))
	now := benchStart.Unix() + int64(i*(tokenTTL-tokenAge/2)/g.n)
	issued := now - int64(mix(i)%(tokenAge+1))
	fresh, _ := g.Spend(context.Background(), time.Unix(now, 0), token.Summary{
		TokenID:    id,
		IssuedAt:   time.Unix(issued, 0),
		Expiration: time.Unix(issued+tokenTTL, 0),
	})
	return fresh
}

func (g fullGuard) mustSpend(b *testing.B, i uint64) {
	if !g.spend(i) {
		b.Fatal("a fresh token was refused")
	}
}

// Guard: spending a fresh token as a gateway does, with a million or eight
// million alive. As many expire as are spent. op=parallel runs on all
// processors. gc-ns is a full garbage collection with that guard in memory, and
// pause-ns its share that stops the program.
func BenchmarkGuard(b *testing.B) {
	for _, size := range []struct {
		name string
		n    uint64
	}{{"1M", 1_000_000}, {"8M", 8_000_000}} {
		var g fullGuard
		var next atomic.Uint64
		run := func(op string, f func(b *testing.B)) {
			b.Run("op="+op+"/tokens="+size.name, func(b *testing.B) {
				if testing.Short() && size.n > 1_000_000 {
					b.Skip("takes a gigabyte")
				}
				if g.Guard == nil {
					g = newFullGuard(b, size.n)
					next.Store(2 * size.n)
				}
				b.ReportAllocs()
				b.ResetTimer()
				f(b)
			})
		}
		run("churn", func(b *testing.B) {
			for b.Loop() {
				g.mustSpend(b, next.Add(1))
			}
			reportCollection(b)
		})
		run("parallel", func(b *testing.B) {
			const batch = 1024 // so that the counter costs nothing
			b.RunParallel(func(pb *testing.PB) {
				var i, end uint64
				for pb.Next() {
					if i == end {
						end = next.Add(batch)
						i = end - batch
					}
					// Don't check the error: here a token
					// lives for a fraction of a second, so
					// the guard refuses a goroutine that
					// was held up.
					g.spend(i)
					i++
				}
			})
		})
	}
}

func reportCollection(b *testing.B) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	began := time.Now()
	runtime.GC()
	b.ReportMetric(float64(time.Since(began)), "gc-ns")
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(after.PauseTotalNs-before.PauseTotalNs), "pause-ns")
}
