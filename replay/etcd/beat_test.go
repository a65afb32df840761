//go:build unix

package etcd

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/replay/etcd/etcdtest"
	"github.com/seed17cb2b26/chattoken/token"
)

// TestRevisionOlder gives a guard a later revision than the cluster, which has
// the guard's key: it replaces the marker.
func TestRevisionOlder(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t, 1)
	ctx := context.Background()
	for name, act := range map[string]func(g *Guard){
		"update": func(g *Guard) { assert.NoError(t, g.update(ctx, false)) },
		"spend": func(g *Guard) {
			s := token.Summary{TokenID: token.ID{1}, IssuedAt: time.Now().Add(-time.Second), Expiration: time.Now().Add(time.Minute)}
			g.mu.Lock()
			// Otherwise the token is refused at once.
			g.history.mark -= 60 * second
			g.mu.Unlock()
			fresh, err := g.Spend(ctx, time.Now(), s)
			assert.False(t, fresh)
			assert.Equal(t, ErrDataLost, err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			g, err := New(ctx, Config{Endpoints: c.Endpoints(), Prefix: name})
			require.NoError(t, err)
			t.Cleanup(g.Close)
			g.updating <- struct{}{} // no heartbeat meanwhile
			g.mu.Lock()
			before := g.belief
			g.belief.revision += 1000
			g.mu.Unlock()
			<-g.updating
			act(g)
			g.mu.Lock()
			defer g.mu.Unlock()
			assert.NotEqual(t, before.marker, g.belief.marker)
			assert.NotEqual(t, before.gateway, g.belief.gateway)
			assert.Less(t, g.belief.revision, before.revision+1000)
			assert.False(t, g.doubted)
		})
	}
}
