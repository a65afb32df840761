package valkey_test

import (
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	client "github.com/valkey-io/valkey-go"

	"github.com/seed17cb2b26/chattoken/replay/valkey"
	"github.com/seed17cb2b26/chattoken/token"
)

// BenchmarkSpend compares Spend with a bare SET of the same client, which it
// pipelines by itself. Take the ratios of one run, and nothing else.
func BenchmarkSpend(b *testing.B) {
	s := startServer(b)
	g := newGuard(b, config(s.Address))
	bare, err := client.NewClient(client.ClientOption{InitAddress: []string{s.Address}, ForceSingleClient: true})
	require.NoError(b, err)
	defer bare.Close()
	for _, callers := range []int{1, 64, 512} {
		b.Run("Bare/"+strconv.Itoa(callers), func(b *testing.B) { concurrently(b, callers, bareSet(b, bare)) })
		b.Run("Guard/"+strconv.Itoa(callers), func(b *testing.B) { concurrently(b, callers, guardSpend(b, g)) })
	}
}

// concurrently has callers call f until b is through.
func concurrently(b *testing.B, callers int, f func(n uint64)) {
	b.ReportAllocs()
	b.ResetTimer()
	timed(callers, b.N, f)
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
