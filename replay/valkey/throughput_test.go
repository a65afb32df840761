package valkey_test

import (
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	client "github.com/valkey-io/valkey-go"
)

// TestThroughput compares Spend with a bare SET of the same client, which it
// pipelines by itself: in turns, often and shortly, and the fastest of each. What else
// the machine does can only make one slower.
func TestThroughput(t *testing.T) {
	if testing.Short() || race {
		t.Skip("compares speeds")
	}
	const rounds, each = 40, 3000
	s := startServer(t)
	g := newGuard(t, config(s.Address))
	bare, err := client.NewClient(client.ClientOption{InitAddress: []string{s.Address}, ForceSingleClient: true})
	require.NoError(t, err)
	t.Cleanup(bare.Close)
	for _, callers := range []int{1, 64, 512} {
		set, spend := time.Hour, time.Hour
		var ratios []float64
		for range rounds {
			n := each
			if callers == 1 {
				n /= 10
			}
			x, y := timed(callers, n, bareSet(t, bare)), timed(callers, n, guardSpend(t, g))
			set = min(set, x)
			spend = min(spend, y)
			ratios = append(ratios, float64(x)/float64(y))
		}
		slices.Sort(ratios)
		ratio := float64(set) / float64(spend)
		t.Logf("%d callers: %.2f of the rate of a bare SET; median %.2f %v", callers, ratio, ratios[rounds/2], set)
		if callers > 1 { // one alone pays for the two commands that many share
			assert.GreaterOrEqual(t, ratio, 0.8)
		}
	}
}

// timed returns how long callers take for n calls of f.
func timed(callers, n int, f func(n uint64)) time.Duration {
	var left atomic.Int64
	left.Store(int64(n))
	began := time.Now()
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				f(serial.Add(1))
			}
		})
	}
	wg.Wait()
	return time.Since(began)
}
