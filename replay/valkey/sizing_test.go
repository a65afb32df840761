package valkey_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/replay/valkey"
	"github.com/seed17cb2b26/chattoken/token"
)

// TestBytes measures what SIZING.md calculates with.
func TestBytes(t *testing.T) {
	if testing.Short() || race {
		t.Skip("spends many tokens")
	}
	const tokens = 1 << 17 // the server's hash table is as full as it gets
	s := startServer(t)
	g := newGuard(t, config(s.Address))
	before := used(t, s)
	timed(256, tokens-100, guardSpend(t, g))
	bytes := float64(used(t, s)-before) / tokens
	size := 0
	files, err := filepath.Glob(filepath.Join(s.Dir, "appendonlydir", "*"))
	require.NoError(t, err)
	for _, f := range files {
		info, err := os.Stat(f)
		require.NoError(t, err)
		size += int(info.Size())
	}
	t.Logf("%.0f bytes of memory and %.0f of file for a token", bytes, float64(size)/tokens)
	assert.InDelta(t, 150, bytes, 50)
	assert.EqualValues(t, tokens-100, g.Stats().Fresh)
	assert.Equal(t, valkey.DefaultPrefix, "chattoken:", "the name of a key is 26 bytes")
}

// TestBytesRevoked measures the same for revocations.
func TestBytesRevoked(t *testing.T) {
	const revocations = 1 << 12
	s := startServer(t)
	g := newGuard(t, config(s.Address))
	room := strings.Repeat("r", 56)
	measure := func(name string, want float64, revoke func(user string) error) {
		before := used(t, s)
		for i := range revocations {
			require.NoError(t, revoke(fmt.Sprintf("%013d", i)))
		}
		bytes := float64(used(t, s)-before) / revocations
		t.Logf("%.0f bytes for %s", bytes, name)
		assert.InDelta(t, want, bytes, want/3)
	}
	measure("a user", 220, func(user string) error { return g.Revoke(ctx, token.Target{User: user}, time.Now()) })
	measure("a user in a room", 310, func(user string) error { return g.Revoke(ctx, token.Target{Room: room, User: user}, time.Now()) })
}

// TestBytesWaiting measures what a call takes while it waits, besides its
// goroutine.
func TestBytesWaiting(t *testing.T) {
	if race {
		t.Skip("measures memory")
	}
	const calls = 1 << 13
	s := startServer(t)
	c := config(s.Address)
	g := newGuard(t, c)
	begin := make(chan struct{})
	var wg sync.WaitGroup
	for n := range uint64(calls) {
		wg.Go(func() {
			<-begin
			spend(g, numbered(n))
		})
	}
	s.Stop()
	before := allocated()
	close(begin)
	eventually(t, func() bool { return g.Stats().Waiting == calls })
	time.Sleep(100 * time.Millisecond) // until the last of them waits
	bytes := float64(allocated()-before) / calls
	s.Resume()
	wg.Wait()
	t.Logf("%.0f bytes for a call that waits", bytes)
	assert.InDelta(t, 900, bytes, 300)
}

func allocated() int {
	var m runtime.MemStats
	for range 3 { // a sync.Pool outlives one
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

func used(t testing.TB, s *server) int {
	t.Helper()
	for line := range strings.Lines(mustString(t, s, "INFO", "memory")) {
		if value, ok := strings.CutPrefix(line, "used_memory:"); ok {
			n, err := strconv.Atoi(strings.TrimSpace(value))
			require.NoError(t, err)
			return n
		}
	}
	t.Fatal("the server does not say how much memory it uses")
	return 0
}
