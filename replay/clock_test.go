package replay_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/replay"
)

// TestClockJumps sets the clock forward and back: spent tokens stay spent, and
// the guard keeps working.
func TestClockJumps(t *testing.T) {
	type visit struct {
		at    time.Duration // after epoch
		spend bool
	}
	for _, tt := range []struct {
		name   string
		visits []visit
	}{
		{"ten years ahead", []visit{{tenYears, false}}},
		{"ten years ahead, spending", []visit{{tenYears, true}}},
		{"ten years, back, twenty years", []visit{{tenYears, true}, {0, true}, {2 * tenYears, true}}},
		{"twenty years, back, ten years", []visit{{2 * tenYears, true}, {0, true}, {tenYears, true}}},
		{"an hour back", []visit{{-time.Hour, true}}},
		{"ten years back", []visit{{-tenYears, true}}},
		{"back and ahead", []visit{{-tenYears, true}, {tenYears, true}, {-time.Hour, true}}},
		{"seven decades", []visit{
			{tenYears, true}, {2 * tenYears, true}, {3 * tenYears, true}, {4 * tenYears, true},
			{5 * tenYears, true}, {6 * tenYears, true}, {7 * tenYears, true},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := newGuard(t, 100)
			n := uint64(0)
			var spent []uint64
			spendMany := func(now time.Time) {
				for range 2000 {
					n++
					if fresh, _ := g.Spend(ctx, now, tokenAt(n, now, time.Minute)); fresh {
						spent = append(spent, n)
					}
				}
			}
			spendMany(epoch)
			require.Len(t, spent, 2000)
			for _, v := range tt.visits {
				now := epoch.Add(v.at)
				if v.spend {
					spendMany(now)
				} else {
					_, _ = g.Spend(ctx, now, tokenAt(0, now, time.Minute))
				}
				for _, i := range spent[:2000] {
					requireRefused(t, g, epoch, tokenAt(i, epoch, time.Minute))
				}
			}

			// Only the forgotten seconds are refused now.
			now := epoch.Add(time.Second)
			for range 500 {
				n++
				requireFresh(t, g, now, tokenAt(n, now, time.Minute))
			}
		})
	}
}

// TestClockBackAnHour spends for an hour, then sets the clock back to it.
func TestClockBackAnHour(t *testing.T) {
	g := newGuard(t, 100)
	n := uint64(0)
	issued := make(map[uint64]time.Time)
	for at := range 3600 {
		n++
		issued[n] = epoch.Add(time.Duration(at) * time.Second)
		requireFresh(t, g, issued[n], tokenAt(n, issued[n], time.Minute))
	}
	for i, at := range issued {
		requireRefused(t, g, at, tokenAt(i, at, time.Minute))
		requireRefused(t, g, at.Add(59*time.Second), tokenAt(i, at, time.Minute))
	}
	now := epoch.Add(time.Hour + time.Second)
	requireFresh(t, g, now, tokenAt(n+1, now, time.Minute))
}

// TestStalledGoroutine stalls a caller after it read the clock. Meanwhile
// others spend its token and go on until its bucket is gone.
func TestStalledGoroutine(t *testing.T) {
	g := newGuard(t, 1000)
	stale := make([]uint64, 500)
	for i := range stale {
		stale[i] = uint64(i)
		requireFresh(t, g, epoch, tokenAt(stale[i], epoch, 5*time.Second))
	}
	n := uint64(len(stale))
	for second := range time.Duration(600) {
		now := epoch.Add(second * time.Second)
		for range 100 {
			n++
			requireFresh(t, g, now, tokenAt(n, now, time.Minute))
		}
		for _, i := range stale {
			requireRefused(t, g, epoch, tokenAt(i, epoch, 5*time.Second))
		}
	}
}

// TestTwoClocks spends by clocks that differ by up to two seconds, across the
// edge of every bucket.
func TestTwoClocks(t *testing.T) {
	g := newGuard(t, 100)
	rng := rand.New(rand.NewPCG(1, 2))
	jitter := func() time.Duration { return time.Duration(rng.Int64N(int64(2 * time.Second))) }
	for i := range uint64(50_000) {
		now := epoch.Add(time.Duration(i)*7*time.Millisecond + jitter())
		tok := tokenAt(i, now, time.Duration(5+rng.IntN(20))*time.Second)
		requireFresh(t, g, now, tok)
		ahead, behind := jitter(), jitter()
		requireRefused(t, g, now.Add(ahead-behind), tok)
	}
}

// TestFullOfTheFuture fills a guard while the clock is ahead. When the clock is
// right again, tokens that expire in years make room.
func TestFullOfTheFuture(t *testing.T) {
	g := newGuard(t, 100)
	ahead := epoch.Add(tenYears)
	var spent []uint64
	for i := range uint64(2 * g.Stats(epoch).Capacity) {
		if fresh, _ := g.Spend(ctx, ahead, tokenAt(i, ahead, 10*time.Second)); fresh {
			spent = append(spent, i)
		}
	}
	require.NotZero(t, g.Stats(epoch).Full)
	for i := range uint64(6600) {
		requireFresh(t, g, epoch, tokenAt(i+1e6, epoch, time.Duration(5+i%56)*time.Second))
	}
	for _, i := range spent {
		requireRefused(t, g, ahead, tokenAt(i, ahead, 10*time.Second))
	}
}

// TestForgotten compares the set of intervals with a map. They are equal unless
// there ever were more runs of seconds than the set has intervals.
func TestForgotten(t *testing.T) {
	const span = 200
	for seed := range uint64(500) {
		rng := rand.New(rand.NewPCG(seed, 0))
		var set replay.Forgotten
		all := make(map[int64]bool)
		most := 0
		for range rng.IntN(30) {
			second := rng.Int64N(span)
			for range 1 + rng.IntN(20) {
				set.Add(second)
				all[second] = true
				most = max(most, runs(all))
				second++
			}
		}
		require.LessOrEqual(t, set.Intervals(), 8)
		if most <= 8 {
			require.Equal(t, runs(all), set.Intervals(), "seed %d", seed)
		}
		for second := int64(-5); second < span+30; second++ {
			got := set.Contains(second)
			if all[second] && !got || most <= 8 && got != all[second] {
				t.Fatalf("seed %d: %d is forgotten: %v, want %v", seed, second, got, all[second])
			}
		}
	}
}

// runs returns how many intervals a set of seconds consists of.
func runs(set map[int64]bool) (n int) {
	for second := range set {
		if !set[second-1] {
			n++
		}
	}
	return n
}

// TestForgottenMergesNearest makes the clock jump far away seven times. The
// seconds between stay free, however often the present grows.
func TestForgottenMergesNearest(t *testing.T) {
	var set replay.Forgotten
	const decade = int64(tenYears / time.Second)
	now := epoch.Unix()
	for i := range int64(8) {
		set.Add(now + i*decade)
	}
	for i := range int64(1000) {
		set.Add(now + 10*i)
		if next := now + 10*i + 1; set.Contains(next) {
			t.Fatalf("forgot %d, the second after the latest", next)
		}
	}
	for i := range int64(7) {
		assert.False(t, set.Contains(now+i*decade+decade/2), fmt.Sprintf("between decades %d and %d", i, i+1))
	}
}
