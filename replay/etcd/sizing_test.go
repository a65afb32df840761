//go:build unix

package etcd_test

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/replay/etcd"
	"github.com/seed17cb2b26/chattoken/replay/etcd/etcdtest"
)

// TestBytes measures what SIZING.md says of a token.
func TestBytes(t *testing.T) {
	long(t)
	t.Parallel()
	c := etcdtest.Start(t, 1)
	g := newGuard(t, etcd.Config{Endpoints: c.Endpoints()})
	waitReady(t, g)
	client := dial(t, c)
	measure := func() (bytes, revision int64) {
		// Members commit every 100 ms.
		time.Sleep(200 * time.Millisecond)
		status, err := client.Status(ctx, c.Members[0].Endpoint)
		require.NoError(t, err)
		return status.DbSizeInUse, status.Header.Revision
	}
	const tokens, callers = 20_000, 256
	bytes, revision := measure()
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for range tokens / callers {
				assert.Equal(t, "fresh", spend(g, issued(time.Now(), time.Minute)))
			}
		})
	}
	wg.Wait()
	after, last := measure()
	each := float64(after-bytes) / tokens
	t.Logf("%.0f bytes a token, %.3f revisions a token", each, float64(last-revision)/tokens)
	assert.Greater(t, each, 80.0)
	assert.Less(t, each, 400.0)
	assert.Less(t, last-revision, int64(tokens), "tokens share transactions")
}
