//go:build unix

package peers_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	valkeygo "github.com/valkey-io/valkey-go"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/replay/etcd"
	"github.com/seed17cb2b26/chattoken/replay/etcd/etcdtest"
	"github.com/seed17cb2b26/chattoken/replay/valkey"
	"github.com/seed17cb2b26/chattoken/replay/valkey/valkeytest"
	"github.com/seed17cb2b26/chattoken/token"
)

var fleetLimits = keyring.Limits{MaxTTL: time.Minute, ClockSkew: time.Second}

// fleetGuard is a guard of this library on a server.
type fleetGuard interface {
	token.Guard
	ReadyAt() time.Time
}

// Fleet spends fresh tokens on one server: with the guard, and with the bare
// client, which sets a key if it doesn't exist and so refuses the second use.
// Each caller waits for an answer. Servers don't wait for the disk.
func BenchmarkFleet(b *testing.B) {
	b.Run("server=redis", func(b *testing.B) {
		s := valkeytest.Start(b)
		guard, err := valkey.New(b.Context(), valkey.Config{Addresses: []string{s.Address}, Limits: fleetLimits})
		require.NoError(b, err)
		defer guard.Close()
		bare, err := valkeygo.NewClient(valkeygo.ClientOption{InitAddress: []string{s.Address}, ForceSingleClient: true})
		require.NoError(b, err)
		defer bare.Close()
		benchFleet(b, guard, func(ctx context.Context, id string) (fresh bool, err error) {
			err = bare.Do(ctx, bare.B().Set().Key(id).Value("1").Nx().PxMilliseconds(120_000).Build()).Error()
			return err == nil, err
		})
	})
	b.Run("server=etcd", func(b *testing.B) {
		c := etcdtest.Start(b, 1)
		guard, err := etcd.New(b.Context(), etcd.Config{Endpoints: c.Endpoints(), Limits: fleetLimits})
		require.NoError(b, err)
		defer guard.Close()
		bare, err := clientv3.New(clientv3.Config{Endpoints: c.Endpoints()})
		require.NoError(b, err)
		defer bare.Close()
		benchFleet(b, guard, func(ctx context.Context, id string) (fresh bool, err error) {
			r, err := bare.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision(id), "=", 0)).Then(clientv3.OpPut(id, "1")).Commit()
			return err == nil && r.Succeeded, err
		})
	})
}

func benchFleet(b *testing.B, guard fleetGuard, bare func(ctx context.Context, id string) (fresh bool, err error)) {
	time.Sleep(time.Until(guard.ReadyAt()))
	ctx := b.Context()
	var serial atomic.Uint64
	clients := []struct {
		name  string
		spend func(id token.ID) (fresh bool, err error)
	}{
		{"guard", func(id token.ID) (bool, error) {
			now := time.Now()
			issued := now.Truncate(time.Second)
			return guard.Spend(ctx, now, token.Summary{
				TokenID: id, IssuedAt: issued, Expiration: issued.Add(time.Minute), ClockSkew: fleetLimits.ClockSkew,
			})
		}},
		{"bare", func(id token.ID) (bool, error) { return bare(ctx, "bare:"+string(id[:])) }},
	}
	for _, c := range clients {
		for _, callers := range []int{1, 64} {
			b.Run(fmt.Sprintf("client=%s/callers=%d", c.name, callers), func(b *testing.B) {
				var wg sync.WaitGroup
				var begun atomic.Int64
				for range callers {
					wg.Go(func() {
						for begun.Add(1) <= int64(b.N) {
							var id token.ID
							binary.BigEndian.PutUint64(id[:], mix(serial.Add(1)))
							if fresh, err := c.spend(id); err != nil || !fresh {
								b.Error(fresh, err)
								return
							}
						}
					})
				}
				wg.Wait()
			})
		}
	}
}
