package valkey_test

import (
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	client "github.com/valkey-io/valkey-go"

	"github.com/seed17cb2b26/chattoken/replay/valkey"
	"github.com/seed17cb2b26/chattoken/token"
)

// BenchmarkSpend compares Spend with a bare SET of a client that pipelines by
// itself. It takes many short turns, and the fastest of each, because other
// work on the machine can only slow one down. The ratio, of-bare, is what
// counts.
func BenchmarkSpend(b *testing.B) {
	const each = 3000
	s := startServer(b)
	g := newGuard(b, config(s.Address))
	bare, err := client.NewClient(client.ClientOption{InitAddress: []string{s.Address}, ForceSingleClient: true})
	require.NoError(b, err)
	defer bare.Close()
	for _, callers := range []int{1, 64, 512} {
		b.Run("callers="+strconv.Itoa(callers), func(b *testing.B) {
			set, spend := time.Hour, time.Hour
			n := each
			if callers == 1 {
				n /= 10
			}
			for b.Loop() {
				set = min(set, timed(callers, n, bareSet(b, bare)))
				spend = min(spend, timed(callers, n, guardSpend(b, g)))
			}
			b.ReportMetric(float64(set)/float64(spend), "of-bare")
		})
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

var serial atomic.Uint64

func guardSpend(t testing.TB, g *valkey.Guard) func(n uint64) {
	return func(n uint64) {
		now := time.Now()
		fresh, err := g.Spend(ctx, now, tokenAt(n, now.Add(skew), time.Minute))
		if !fresh || err != nil {
			t.Error(fresh, err)
		}
	}
}

// bareSet sets a key of as many bytes, with as long a time to live.
func bareSet(t testing.TB, c client.Client) func(n uint64) {
	return func(n uint64) {
		tok := tokenAt(n, time.Now(), time.Minute)
		if err := c.Do(ctx, setCommand(c, tok)).Error(); err != nil && !client.IsValkeyNil(err) {
			t.Error(err)
		}
	}
}

func setCommand(c client.Client, tok token.Summary) client.Completed {
	key := "bare-set:\x00" + string(tok.TokenID[:])
	return c.B().Set().Key(key).Value(key[10:]).Nx().Get().PxMilliseconds(120_000).Build()
}
