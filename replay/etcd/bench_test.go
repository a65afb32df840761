//go:build unix

package etcd_test

import (
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/seed17cb2b26/chattoken/replay/etcd"
	"github.com/seed17cb2b26/chattoken/replay/etcd/etcdtest"
)

// The benchmarks compare spending with what a bare client does: a put, and a
// transaction that creates a key. The servers do not wait for the disk.

func BenchmarkPut(b *testing.B) {
	var n atomic.Int64
	each(b, func(b *testing.B, c *etcdtest.Cluster) func() error {
		client := dial(b, c)
		return func() error {
			_, err := client.Put(ctx, "put/"+strconv.FormatInt(n.Add(1), 10), "0123456789abcdef")
			return err
		}
	})
}

func BenchmarkCreate(b *testing.B) {
	var n atomic.Int64
	each(b, func(b *testing.B, c *etcdtest.Cluster) func() error {
		client := dial(b, c)
		return func() error {
			key := "create/" + strconv.FormatInt(n.Add(1), 10)
			_, err := client.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision(key), "=", 0)).
				Then(clientv3.OpPut(key, "0123456789abcdef")).Else(clientv3.OpGet(key)).Commit()
			return err
		}
	})
}

func BenchmarkSpend(b *testing.B) {
	each(b, func(b *testing.B, c *etcdtest.Cluster) func() error {
		g := newGuard(b, etcd.Config{Endpoints: c.Endpoints()})
		waitReady(b, g)
		return func() error {
			fresh, err := g.Spend(ctx, time.Now(), issued(time.Now(), time.Minute))
			if err == nil && !fresh {
				err = fmt.Errorf("not fresh")
			}
			return err
		}
	})
}

// each runs a benchmark for clusters and numbers of callers.
func each(b *testing.B, prepare func(b *testing.B, c *etcdtest.Cluster) func() error) {
	for _, members := range []int{1, 3} {
		b.Run(fmt.Sprintf("members=%d", members), func(b *testing.B) {
			do := prepare(b, etcdtest.Start(b, members))
			for _, callers := range []int{1, 64, 512} {
				b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
					var wg sync.WaitGroup
					var left atomic.Int64
					left.Store(int64(b.N))
					b.ResetTimer()
					for range callers {
						wg.Go(func() {
							for left.Add(-1) >= 0 {
								require.NoError(b, do())
							}
						})
					}
					wg.Wait()
				})
			}
		})
	}
}
