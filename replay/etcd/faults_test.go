//go:build unix

package etcd_test

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/seed17cb2b26/chattoken/replay/etcd"
	"github.com/seed17cb2b26/chattoken/replay/etcd/etcdtest"
	"github.com/seed17cb2b26/chattoken/token"
)

// dial returns a client of the test's own.
func dial(t testing.TB, c *etcdtest.Cluster) *clientv3.Client {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: c.Endpoints(), Logger: zap.NewNop()})
	require.NoError(t, err)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func hexID(id uint64) string { return strconv.FormatUint(id, 16) }

func TestMembersFail(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t, 3)
	config := etcd.Config{Endpoints: c.Endpoints()}
	g1, g2 := newGuard(t, config), newGuard(t, config)
	waitReady(t, g1, g2)
	tr := startTraffic(t, g1, g2)
	tr.progress(50)
	leader := func() (m *etcdtest.Member) {
		eventually(t, func() bool { m = c.Leader(); return m != nil })
		return m
	}
	m := leader()
	m.Kill()
	tr.progress(50)
	m.Restart()

	m = leader()
	m.Stop()
	tr.progress(50)
	m.Resume()
	tr.progress(50)

	for _, m := range c.Members { // no quorum
		m.Stop()
	}
	time.Sleep(2 * time.Second)
	for _, m := range c.Members {
		m.Resume()
	}
	tr.progress(50)

	c.Kill()
	c.Launch()
	tr.progress(50)
	tr.end()
	assert.EqualValues(t, 2, g1.Stats().Losses+g2.Stats().Losses, "nothing was lost but at their starts")
}

func TestPartitions(t *testing.T) {
	long(t)
	t.Parallel()
	m := startMesh(t, 3)
	config := etcd.Config{Endpoints: m.Endpoints()}
	g1, g2 := newGuard(t, config), newGuard(t, config)
	waitReady(t, g1, g2)
	tr := startTraffic(t, g1, g2)
	tr.progress(50)
	for range 2 {
		for i, member := range m.Members {
			if member == m.Leader() {
				m.isolate(i)
				break
			}
		}
		tr.progress(50)
		m.heal()
		tr.progress(50)
	}
	m.divide()
	time.Sleep(2 * time.Second)
	m.heal()
	tr.progress(50)
	tr.end()
}

// TestSplitBrain shows a token to both sides of a split: the old leader is cut
// off and still has a gateway, the others have a new leader and another
// gateway. No rule on one asynchronously replicated server closes that.
func TestSplitBrain(t *testing.T) {
	t.Parallel()
	m := startMesh(t, 3)
	old := -1
	eventually(t, func() bool {
		for i, member := range m.Members {
			if member == m.Leader() {
				old = i
			}
		}
		return old >= 0
	})
	other := (old + 1) % 3
	here := newGuard(t, etcd.Config{Endpoints: []string{m.Members[old].Endpoint}})
	there := newGuard(t, etcd.Config{Endpoints: []string{m.Members[other].Endpoint}})
	waitReady(t, here, there)
	m.isolate(old)
	s := issued(time.Now(), time.Minute)
	var wg sync.WaitGroup
	wg.Go(func() { assert.NotEqual(t, "fresh", spend(here, s), "without a quorum") })
	eventually(t, func() bool { return spend(there, s) == "fresh" })
	wg.Wait()
	m.heal()
	eventually(t, func() bool { return spend(here, s) == "spent" })
}

// TestAnswersLost loses answers after the transaction was executed.
func TestAnswersLost(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t, 1)
	p := startProxy(t, c.Members[0].Endpoint)
	g := newGuard(t, etcd.Config{Endpoints: []string{p.address, c.Members[0].Endpoint}})
	other := newGuard(t, etcd.Config{Endpoints: c.Endpoints()})
	waitReady(t, g, other)
	require.Equal(t, "fresh", spend(g, issued(time.Now(), time.Minute)))
	p.mute.Store(true)
	tokens := make([]token.Summary, 50)
	var wg sync.WaitGroup
	for i := range tokens {
		tokens[i] = issued(time.Now(), time.Minute)
		wg.Go(func() { assert.Equal(t, "fresh", spend(g, tokens[i]), "it recognises itself") })
	}
	wg.Wait()
	for _, s := range tokens {
		assert.Equal(t, "spent", spend(other, s))
	}
	assert.Greater(t, g.Stats().Connections, uint64(1))
}

// TestExecutedLate lets a call give up before the answer. A second call with
// the token learns that it is spent, and no call learns that it is fresh.
func TestExecutedLate(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t, 1)
	p := startProxy(t, c.Members[0].Endpoint)
	g := newGuard(t, etcd.Config{Endpoints: []string{p.address}, Timeout: time.Second})
	waitReady(t, g)
	require.Equal(t, "fresh", spend(g, issued(time.Now(), time.Minute)))
	p.mute.Store(true)
	s := issued(time.Now(), time.Minute)
	short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	fresh, err := g.Spend(short, time.Now(), s)
	assert.False(t, fresh)
	assert.ErrorIs(t, err, etcd.ErrCanceled)
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	assert.ErrorIs(t, err, token.ErrUnavailable)
	assert.ErrorIs(t, errOf(g.Spend(ctx, time.Now(), issued(time.Now(), time.Minute))), etcd.ErrUnreachable)
	p.mute.Store(false)
	p.hangUp()
	eventually(t, func() bool {
		got := spend(g, s)
		assert.NotEqual(t, "fresh", got)
		return got == "spent"
	})
}

func errOf(_ bool, err error) error { return err }

// TestRestored restores the cluster from a snapshot under running gateways, and
// shows them what was spent after it.
func TestRestored(t *testing.T) {
	long(t)
	t.Parallel()
	for _, members := range []int{1, 3} {
		for name, restore := range map[string]func(t *testing.T, c *etcdtest.Cluster, snapshot string){
			"plain":  func(t *testing.T, c *etcdtest.Cluster, snapshot string) { c.Restore(snapshot) },
			"bumped": bumped,
			"anew":   func(t *testing.T, c *etcdtest.Cluster, _ string) { c.Forget() },
		} {
			t.Run(name+strconv.Itoa(members), func(t *testing.T) {
				t.Parallel()
				testRestored(t, members, restore)
			})
		}
	}
}

// bumped restores with revisions beyond all before. Old versions of the tool
// cannot; for them testRestored uses up revisions.
func bumped(t *testing.T, c *etcdtest.Cluster, snapshot string) {
	if filepath.Base(etcdtest.Tool(t)) == "etcdutl" {
		c.Restore(snapshot, "--bump-revision", "1000000000", "--mark-compacted")
		return
	}
	c.Restore(snapshot)
}

func testRestored(t *testing.T, members int, restore func(t *testing.T, c *etcdtest.Cluster, snapshot string)) {
	c := etcdtest.Start(t, members)
	var endpoints []string
	var proxies []*proxy
	for _, m := range c.Members {
		p := startProxy(t, m.Endpoint)
		proxies, endpoints = append(proxies, p), append(endpoints, p.address)
	}
	g1, g2 := newGuard(t, etcd.Config{Endpoints: endpoints}), newGuard(t, etcd.Config{Endpoints: endpoints})
	waitReady(t, g1, g2)
	client := dial(t, c)
	spendAll := func(n int) (tokens []token.Summary) {
		for range n {
			s := issued(time.Now().Add(4*time.Second), 5*time.Minute)
			require.Equal(t, "fresh", spend(g1, s))
			tokens = append(tokens, s)
		}
		return tokens
	}
	before := spendAll(20)
	snapshot := save(t, c)
	synced := time.Now()
	eventually(t, func() bool { // heartbeats that the snapshot lacks
		return g1.Synced().After(synced.Add(time.Second)) && g2.Synced().After(synced.Add(time.Second))
	})
	spent := append(before, spendAll(20)...)
	revoked := token.Target{User: "revoked after the snapshot"}
	require.NoError(t, g1.Revoke(ctx, revoked, time.Now()))
	head, err := client.Get(ctx, "x")
	require.NoError(t, err)

	blocked := func(string) bool { return true }
	for _, p := range proxies {
		p.cut.Store(&blocked)
		p.hangUp()
	}
	c.Kill()
	restore(t, c, snapshot)
	c.Launch()
	for { // the same revisions, with other contents
		reply, err := client.Put(ctx, "x", "")
		require.NoError(t, err)
		if reply.Header.Revision > head.Header.Revision+10 {
			break
		}
	}
	for _, p := range proxies {
		p.cut.Store(nil)
	}
	// This one starts after it all.
	g3 := newGuard(t, etcd.Config{Endpoints: endpoints})
	for _, g := range []*etcd.Guard{g1, g2, g3} {
		for _, s := range spent {
			assert.NotEqual(t, "fresh", spend(g, s))
		}
	}
	waitReady(t, g1, g2, g3)
	for _, s := range spent {
		for _, g := range []*etcd.Guard{g1, g2, g3} {
			assert.NotEqual(t, "fresh", spend(g, s))
		}
	}
	s := issued(time.Now(), time.Minute)
	assert.Equal(t, "fresh", spend(g2, s))
	assert.Equal(t, "spent", spend(g3, s))
	s.UserID = []byte(revoked.User)
	s.IssuedAt = s.IssuedAt.Add(-20 * time.Second)
	eventually(t, func() bool { return g3.Revoked(s) == token.ErrRevoked })
}

// TestCutOff restores a cluster from a snapshot that is newer than the last
// heartbeat of a gateway that was cut off. It has the gateway's key, but the
// gateway must not rely on that.
func TestCutOff(t *testing.T) {
	long(t)
	t.Parallel()
	c := etcdtest.Start(t, 1)
	p := startProxy(t, c.Members[0].Endpoint)
	there := newGuard(t, etcd.Config{Endpoints: c.Endpoints()})
	here := newGuard(t, etcd.Config{Endpoints: []string{p.address}})
	waitReady(t, there, here)
	blocked := func(string) bool { return true }
	p.cut.Store(&blocked)
	p.hangUp()
	cut := here.Synced()
	time.Sleep(2 * time.Second)
	snapshot := save(t, c)
	time.Sleep(time.Until(cut.Add(33 * time.Second)))
	s := issued(time.Now(), 5*time.Minute)
	require.Equal(t, "fresh", spend(there, s))
	there.Close() // or it replaces the marker
	c.Kill()
	c.Restore(snapshot)
	c.Launch()
	p.cut.Store(nil)
	eventually(t, func() bool { return here.Synced().After(cut.Add(33 * time.Second)) })
	assert.Equal(t, etcd.ErrDataLost.Error(), spend(here, s))
	assert.EqualValues(t, 2, here.Stats().Losses)
}

// save takes a snapshot.
func save(t testing.TB, c *etcdtest.Cluster) (path string) {
	t.Helper()
	client := dial(t, c)
	defer client.Close()
	r, err := client.Snapshot(ctx)
	require.NoError(t, err)
	defer r.Close()
	path = filepath.Join(t.TempDir(), "snapshot")
	f, err := os.Create(path)
	require.NoError(t, err)
	defer f.Close()
	_, err = io.Copy(f, r)
	require.NoError(t, err)
	return path
}

func TestLeases(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t, 1)
	g := newGuard(t, etcd.Config{Endpoints: c.Endpoints()})
	waitReady(t, g)
	client := dial(t, c)
	ttls := func() (all []int64, ids []clientv3.LeaseID) {
		reply, err := client.Get(ctx, etcd.DefaultPrefix+"spent/", clientv3.WithPrefix())
		require.NoError(t, err)
		for _, kv := range reply.Kvs {
			l, err := client.TimeToLive(ctx, clientv3.LeaseID(kv.Lease))
			require.NoError(t, err)
			all, ids = append(all, l.TTL), append(ids, l.ID)
		}
		return all, ids
	}
	s := issued(time.Now(), 40*time.Second)
	require.Equal(t, "fresh", spend(g, s))
	all, ids := ttls()
	require.Len(t, all, 1)
	left := int64(time.Until(s.Expiration) / time.Second)
	assert.GreaterOrEqual(t, all[0], left+59, "a minute beyond the token's life")
	assert.LessOrEqual(t, all[0], left+70)

	// The cluster loses the lease: others are granted, and nobody notices.
	_, err := client.Revoke(ctx, ids[0])
	require.NoError(t, err)
	for range 20 {
		next := issued(s.IssuedAt, 40*time.Second)
		assert.Equal(t, "fresh", spend(g, next))
		assert.Equal(t, "spent", spend(g, next))
	}
	// Few leases for many tokens, and none with more than a thousand.
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for range 40 {
				assert.Equal(t, "fresh", spend(g, issued(s.IssuedAt, 40*time.Second)))
			}
		})
	}
	wg.Wait()
	_, ids = ttls()
	counts := map[clientv3.LeaseID]int{}
	for _, id := range ids {
		counts[id]++
		require.LessOrEqual(t, counts[id], 1000)
	}
	assert.Less(t, len(counts), 20)
}

// TestClockSetBack sets a gateway's clock back by an hour. The cluster may have
// forgotten by then what was spent.
func TestClockSetBack(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t, 1)
	var mu sync.Mutex
	offset := time.Duration(0)
	now := func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return time.Now().Add(offset)
	}
	set := func(d time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		offset = d
	}
	g := newGuard(t, etcd.Config{Endpoints: c.Endpoints(), Now: now})
	other := newGuard(t, etcd.Config{Endpoints: c.Endpoints()})
	waitReady(t, g, other)
	mine, theirs := issued(time.Now(), time.Minute), issued(time.Now(), time.Minute)
	require.Equal(t, "fresh", spend(g, mine))
	require.Equal(t, "fresh", spend(other, theirs))
	// This is as if the leases had ended.
	_, err := dial(t, c).Delete(ctx, etcd.DefaultPrefix+"spent/", clientv3.WithPrefix())
	require.NoError(t, err)

	set(-time.Hour)
	word := func(s token.Summary) string { return word(g.Spend(ctx, now(), s)) }
	assert.Equal(t, etcd.ErrDataLost.Error(), word(mine))
	assert.Equal(t, etcd.ErrDataLost.Error(), word(theirs))
	assert.Greater(t, time.Until(g.ReadyAt()), time.Duration(0))
	set(time.Second) // it runs on until they seem timely
	assert.Equal(t, etcd.ErrDataLost.Error(), word(mine))
	assert.Equal(t, etcd.ErrDataLost.Error(), word(theirs))

	// Ten years ahead for a moment does no harm afterwards.
	set(10 * 365 * 24 * time.Hour)
	before := g.Synced()
	eventually(t, func() bool { return g.Synced().After(before.Add(24 * time.Hour)) })
	set(0)
	eventually(t, func() bool { return word(issued(time.Now(), time.Minute)) == "fresh" })
}

// TestKeysGone deletes the guard's own keys, and with them a spent token. An
// operator may do that. So may the end of a lease, if its gateway stood still.
func TestKeysGone(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t, 1)
	client := dial(t, c)
	for _, key := range []string{"marker", "revocations", "gateway/", ""} {
		t.Run(key, func(t *testing.T) {
			t.Parallel()
			config := etcd.Config{Endpoints: c.Endpoints(), Prefix: "gone" + key + ":"}
			g, other := newGuard(t, config), newGuard(t, config)
			waitReady(t, g, other)
			s := issued(time.Now(), time.Minute)
			require.Equal(t, "fresh", spend(g, s))
			for _, key := range []string{key, "spent/"} {
				_, err := client.Delete(ctx, config.Prefix+key, clientv3.WithPrefix())
				require.NoError(t, err)
			}
			assert.Equal(t, etcd.ErrDataLost.Error(), spend(other, s))
			assert.Equal(t, etcd.ErrDataLost.Error(), spend(g, s))
			waitReady(t, g, other)
			assert.Equal(t, etcd.ErrDataLost.Error(), spend(g, s))
			s = issued(time.Now(), time.Minute)
			assert.Equal(t, "fresh", spend(g, s))
			assert.Equal(t, "spent", spend(other, s))
		})
	}
}

func TestNoSpace(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t, 1, "--quota-backend-bytes", "2000000")
	g := newGuard(t, etcd.Config{Endpoints: c.Endpoints()})
	waitReady(t, g)
	client := dial(t, c)
	for i := 0; ; i++ {
		if _, err := client.Put(ctx, "fill"+strconv.Itoa(i), string(make([]byte, 100_000))); err != nil {
			break
		}
	}
	eventually(t, func() bool {
		_, err := g.Spend(ctx, time.Now(), issued(time.Now(), time.Minute))
		require.ErrorIs(t, err, etcd.ErrServer)
		return g.Stats().Reasons["no-space"] > 0
	})
}
