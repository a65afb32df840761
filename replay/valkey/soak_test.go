package valkey_test

import (
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/replay/valkey"
	"github.com/seed17cb2b26/chattoken/token"
)

// TestSoakRate spends at full rate, while connections are cut and users
// revoked, for ten minutes, or two seconds. Heap, goroutines and file
// descriptors stay what they were.
func TestSoakRate(t *testing.T) {
	length, pause := 2*time.Second, 100*time.Millisecond
	long := os.Getenv("CHATTOKEN_SOAK") == "1"
	if long {
		length, pause = 10*time.Minute, time.Second
	}
	s := startServer(t, "--appendonly", "no")
	p := startProxy(t, s.Address)
	c := config(p.address)
	c.AcceptNoAppendOnlyFile = true
	if long { // tens of millions, to be forgotten soon
		c.Timeout = valkey.DefaultTimeout
	}
	c.MaxRevocations = 1000
	g := newGuard(t, c)
	waitReady(t, g)
	var stop atomic.Bool
	var late atomic.Uint64
	var pausing sync.RWMutex // keeps pending calls out of the measured heap
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for !stop.Load() {
				now := time.Now()
				pausing.RLock()
				outcome := spendAt(g, now, tokenAt(serial.Add(1), now, 5*time.Second))
				pausing.RUnlock()
				switch outcome {
				case "fresh":
				// The machine is busy.
				case timedOut, noConnection:
					late.Add(1)
				default:
					t.Errorf("outcome: %s", outcome)
					stop.Store(true)
				}
			}
		})
	}
	measure := func() [3]int {
		pausing.Lock()
		defer pausing.Unlock()
		return resources(t)
	}
	time.Sleep(length / 10)
	before := measure()
	for end := time.Now().Add(length); time.Now().Before(end) && !stop.Load(); time.Sleep(pause) {
		p.hangUp()
		if g.Revoke(ctx, token.Target{User: "nobody " + strconv.FormatUint(serial.Add(1), 10)}, time.Now().Add(-time.Hour)) != nil {
			late.Add(1)
		}
	}
	after := measure()
	stop.Store(true)
	wg.Wait()
	t.Logf("%d tokens, %d late, %d connections; heap, goroutines, descriptors: %v before, %v after",
		g.Stats().Fresh, late.Load(), g.Stats().Connections, before, after)
	assert.Less(t, late.Load(), g.Stats().Fresh/10)
	assert.Less(t, after[0]-before[0], 16<<20)
	assert.Less(t, after[1]-before[1], 50, "goroutines")
	assert.Less(t, after[2]-before[2], 20, "file descriptors")
	assert.EqualValues(t, 1, g.Stats().Losses)
}

// resources returns the bytes of the heap, goroutines and file descriptors.
func resources(t testing.TB) [3]int {
	descriptors, err := filepath.Glob("/proc/self/fd/*")
	require.NoError(t, err)
	return [3]int{heap(), runtime.NumGoroutine(), len(descriptors)}
}
