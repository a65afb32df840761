//go:build unix

package etcd_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/replay/etcd"
	"github.com/seed17cb2b26/chattoken/replay/etcd/etcdtest"
	"github.com/seed17cb2b26/chattoken/token"
)

var (
	ctx     = context.Background()
	run     = rand.Uint64() // unique to this process
	uniques atomic.Uint64
)

// hang is how long a test waits before it gives up. It does not measure speed.
const hang = 60 * time.Second

// newGuard returns a guard that ends with the test.
func newGuard(t testing.TB, c etcd.Config) *etcd.Guard {
	t.Helper()
	g, err := etcd.New(ctx, c)
	require.NoError(t, err)
	t.Cleanup(g.Close)
	return g
}

// honest returns a token of an issuer whose clock is ahead by the skew.
func honest(ttl time.Duration) token.Summary {
	return issued(time.Now().Add(5*time.Second), ttl)
}

func issued(at time.Time, ttl time.Duration) token.Summary {
	at = at.Truncate(time.Second)
	s := token.Summary{
		IssuedAt: at, Expiration: at.Add(ttl),
		RoomIdentifier: []byte("room"), UserID: []byte("user"),
	}
	binary.BigEndian.PutUint64(s.TokenID[:], run)
	binary.BigEndian.PutUint64(s.TokenID[8:], uniques.Add(1))
	return s
}

// spend spends a token, and returns the outcome in a word.
func spend(g *etcd.Guard, s token.Summary) string { return word(g.Spend(ctx, time.Now(), s)) }

func word(fresh bool, err error) string {
	switch {
	case fresh && err == nil:
		return "fresh"
	case fresh:
		return fmt.Sprintf("fresh and %v", err)
	case err == nil:
		return "spent"
	}
	return err.Error()
}

// long skips a test whose code other tests run, too.
func long(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("-short")
	}
}

// waitReady waits until newly issued tokens are accepted.
func waitReady(t testing.TB, guards ...*etcd.Guard) {
	t.Helper()
	for _, g := range guards {
		require.Less(t, time.Until(g.ReadyAt()), 10*time.Second)
		for time.Now().Before(g.ReadyAt()) {
			time.Sleep(time.Until(g.ReadyAt()))
		}
	}
}

func TestOnce(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t, 1)
	config := etcd.Config{Endpoints: c.Endpoints()}
	g1, g2 := newGuard(t, config), newGuard(t, config)
	assert.Equal(t, etcd.ErrDataLost.Error(), spend(g1, issued(time.Now(), time.Minute)), "before the start")
	waitReady(t, g1, g2)
	for range 200 {
		s := issued(time.Now(), time.Minute)
		assert.Equal(t, "fresh", spend(g1, s))
		assert.Equal(t, "spent", spend(g2, s))
		assert.Equal(t, "spent", spend(g1, s))
	}
	stats := g1.Stats()
	assert.EqualValues(t, 200, stats.Fresh)
	assert.EqualValues(t, 200, stats.Spent)
	assert.Equal(t, map[string]uint64{"data-lost": 1}, stats.Reasons)
	assert.EqualValues(t, 1, stats.Losses)
	assert.NotZero(t, stats.Size)
}

func TestRace(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t, 1)
	config := etcd.Config{Endpoints: c.Endpoints()}
	g1, g2 := newGuard(t, config), newGuard(t, config)
	waitReady(t, g1, g2)
	const tokens = 5000
	all := make([]token.Summary, tokens)
	for i := range all {
		all[i] = issued(time.Now(), time.Minute)
	}
	var fresh [tokens]atomic.Int32
	var wg sync.WaitGroup
	for w := range 128 {
		g := []*etcd.Guard{g1, g2}[w%2]
		wg.Go(func() {
			for i := w / 4; i < tokens; i += 32 {
				switch got := spend(g, all[i]); got {
				case "fresh":
					fresh[i].Add(1)
				case "spent":
				default:
					t.Error(got)
				}
			}
		})
	}
	wg.Wait()
	for i := range fresh {
		require.EqualValues(t, 1, fresh[i].Load(), i)
	}
}
