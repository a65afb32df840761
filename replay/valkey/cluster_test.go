package valkey_test

import (
	"context"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/replay/valkey"
	"github.com/seed17cb2b26/chattoken/token"
)

const slots = 1 << 14

// cluster is three primaries, each with a third of the slots.
type cluster struct {
	t     testing.TB
	nodes []*server
}

func startCluster(t testing.TB, args ...string) *cluster {
	t.Helper()
	args = append([]string{"--cluster-enabled", "yes", "--cluster-require-full-coverage", "no", "--cluster-node-timeout", "15000"}, args...)
	c := &cluster{t: t}
	for i := range 3 {
		s := startServer(t, args...)
		s.must("CLUSTER", "ADDSLOTSRANGE", strconv.Itoa(slots*i/3), strconv.Itoa(slots*(i+1)/3-1))
		c.nodes = append(c.nodes, s)
	}
	c.meet(c.nodes[1])
	c.meet(c.nodes[2])
	c.agree()
	return c
}

// meet introduces s and the first node to each other.
func (c *cluster) meet(s *server) {
	host, port, _ := net.SplitHostPort(s.Address)
	c.nodes[0].must("CLUSTER", "MEET", host, port)
	eventually(c.t, func() bool {
		return strings.Contains(mustString(c.t, c.nodes[0], "CLUSTER", "NODES"), ":"+port+"@") &&
			strings.Count(mustString(c.t, s, "CLUSTER", "NODES"), "connected") > 1
	})
}

// agree waits until all running nodes see the same, and no fault.
func (c *cluster) agree() {
	c.t.Helper()
	eventually(c.t, func() bool {
		for _, s := range c.nodes {
			info := mustString(c.t, s, "CLUSTER", "INFO")
			if !strings.Contains(info, "cluster_state:ok") || !strings.Contains(info, "cluster_slots_ok:16384") {
				return false
			}
		}
		return true
	})
}

func (c *cluster) config() valkey.Config {
	addresses := make([]string, len(c.nodes))
	for i, s := range c.nodes {
		addresses[i] = s.Address
	}
	return config(addresses...)
}

// slotOf asks the server, because the guard's own computation is under test.
func (c *cluster) slotOf(t token.Summary) int {
	n, err := c.nodes[0].do("CLUSTER", "KEYSLOT", valkey.DefaultPrefix+string(t.TokenID[:])).AsInt64()
	require.NoError(c.t, err)
	return int(n)
}

// in returns a fresh token whose slot is of the third that node i has at first.
func (c *cluster) in(i int) token.Summary {
	for {
		t := unique()
		if slot := c.slotOf(t); slot >= slots*i/3 && slot < slots*(i+1)/3 {
			return t
		}
	}
}

func (c *cluster) id(i int) string { return mustString(c.t, c.nodes[i], "CLUSTER", "MYID") }

// move gives slots of one node to another, with their keys.
func (c *cluster) move(from, to int, moved ...int) {
	c.t.Helper()
	for _, slot := range moved {
		require.NoError(c.t, c.tryMove(from, to, strconv.Itoa(slot)))
	}
}

// tryMove is move for a slot that the node may not have.
func (c *cluster) tryMove(from, to int, slot string) error {
	a, b := c.nodes[from], c.nodes[to]
	c.knows(to, from)
	host, port, _ := net.SplitHostPort(b.Address)
	err := a.do("CLUSTER", "SETSLOT", slot, "MIGRATING", c.id(to)).Error()
	if err == nil {
		err = b.do("CLUSTER", "SETSLOT", slot, "IMPORTING", c.id(from)).Error()
	}
	if err != nil {
		a.must("CLUSTER", "SETSLOT", slot, "STABLE")
		b.must("CLUSTER", "SETSLOT", slot, "STABLE")
		return err
	}
	eventually(c.t, func() bool { // some may have gone, so don't turn back
		keys, err := a.do("CLUSTER", "GETKEYSINSLOT", slot, "100").AsStrSlice()
		if err == nil && len(keys) > 0 {
			a.do(append([]string{"MIGRATE", host, port, "", "0", "5000", "KEYS"}, keys...)...)
		}
		return err == nil && len(keys) == 0
	})
	b.must("CLUSTER", "SETSLOT", slot, "NODE", c.id(to))
	for _, s := range c.nodes { // gossip alone may leave one behind
		s.do("CLUSTER", "SETSLOT", slot, "NODE", c.id(to))
	}
	return nil
}

// knows waits until a node has heard of another's latest epoch. If it took a
// slot without outranking that one, an old packet could take the slot back in
// its own eyes. Then each of the two would send clients to the other for ever.
func (c *cluster) knows(node, other int) {
	c.t.Helper()
	id := c.id(other)
	eventually(c.t, func() bool {
		info := mustString(c.t, c.nodes[other], "CLUSTER", "INFO")
		for line := range strings.Lines(mustString(c.t, c.nodes[node], "CLUSTER", "NODES")) {
			if f := strings.Fields(line); len(f) > 6 && f[0] == id {
				return strings.Contains(info, "cluster_my_epoch:"+f[6]+"\r\n")
			}
		}
		return false
	})
}

// log logs what each node knows of all.
func (c *cluster) log() {
	for _, s := range c.nodes {
		for _, what := range []string{"NODES", "SLOTS", "INFO"} {
			v, err := s.do("CLUSTER", what).ToAny()
			c.t.Logf("CLUSTER %s of %s: %v %v", what, s.Address, v, err)
		}
	}
}

func TestCluster(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	a, b := newGuard(t, c.config()), newGuard(t, config("127.0.0.1:1", c.nodes[2].Address))
	assert.Equal(t, 3, a.Stats().Servers)
	assert.Equal(t, 3, b.Stats().Servers)
	for n := range uint64(1000) {
		require.Equal(t, "fresh", spend(a, numbered(n)))
		require.Equal(t, "spent", spend(b, numbered(n)))
	}
	for _, s := range c.nodes {
		n, err := s.do("DBSIZE").AsInt64()
		require.NoError(t, err)
		assert.Greater(t, n, int64(200))
	}
	// If an ID has braces, the text between them determines the slot.
	for _, id := range []string{"{}{a}bcdefghijkl", "{abcdefghijklmn}", "abc{de}fghijklmn", "}abcdefghijklmn{", "{a}bcdefghijk{l}"} {
		tok := numbered(0)
		copy(tok.TokenID[:], id)
		assert.Equal(t, "fresh", spend(a, tok), id)
		assert.Equal(t, "spent", spend(b, tok), id)
	}
	assert.EqualValues(t, 6, a.Stats().Losses+b.Stats().Losses, "one for each server")
	assert.EqualValues(t, 6, a.Stats().Connections+b.Stats().Connections)

	// A guard that starts cannot know whether the slots were always where
	// they are now.
	tok := honest()
	assert.Equal(t, valkey.ErrDataLost.Error(), spend(newGuard(t, c.config()), tok))

	live := []token.Summary{c.in(0), c.in(1), c.in(2)}
	require.NoError(t, a.Revoke(ctx, token.Target{User: "user"}, time.Now()))
	for _, tok := range live {
		assert.Equal(t, revoked, spend(b, tok))
	}
}

// TestClusterClockSlow starts a gateway whose clock is behind those of the
// servers. It refuses what was issued before it started, by the later clock.
func TestClusterClockSlow(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	slow := c.config()
	slow.Limits.ClockSkew = 30 * time.Second
	slow.Now = func() time.Time { return time.Now().Add(-20 * time.Second) }
	began := time.Now().Truncate(time.Second)
	g, err := valkey.New(ctx, slow)
	require.NoError(t, err)
	defer g.Close()
	assert.False(t, g.ReadyAt().Before(began.Add(31*time.Second)), "%v, and not %v", g.ReadyAt(), began.Add(31*time.Second))
}

// TestClusterMove moves slots while gateways spend. No token is accepted twice,
// and those of other slots are accepted all the time.
func TestClusterMove(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	conf := c.config()
	guards := []*valkey.Guard{newGuard(t, conf), newGuard(t, conf)}
	waitReady(t, guards[1])

	// One token in each slot that will move, spent before. The lowest slot
	// holds the guard's keys on that node.
	var before []token.Summary
	var moved []int
	for len(moved) < 20 {
		tok := c.in(1)
		tok.IssuedAt = time.Now().Truncate(time.Second)
		before, moved = append(before, tok), append(moved, c.slotOf(tok))
		require.Equal(t, "fresh", spend(guards[0], tok))
	}
	moved = append(moved, slots/3)

	var next atomic.Uint64
	winners := make([]atomic.Int32, 200_000)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				// Each token is spent about four times.
				n := next.Add(1) / 4
				if n >= uint64(len(winners)) {
					return
				}
				if fresh, _ := guards[i%2].Spend(ctx, time.Now(), numbered(n)); fresh {
					winners[n].Add(1)
				}
				time.Sleep(2 * time.Millisecond)
			}
		})
	}
	c.move(1, 2, moved...)
	for i, tok := range before {
		assert.NotEqual(t, "fresh", spend(guards[0], tok), i)
		assert.NotEqual(t, "fresh", spend(guards[1], tok), i)
		assert.Equal(t, valkey.ErrDataLost.Error(), spend(guards[1], tok), i)
	}
	other := c.in(0)
	other.IssuedAt = time.Now().Truncate(time.Second)
	assert.Equal(t, "fresh", spend(guards[1], other), "another node's slot was not touched")
	close(stop)
	wg.Wait()
	fresh := 0
	for n := range winners {
		require.LessOrEqual(t, winners[n].Load(), int32(1), "token %d", n)
		fresh += int(winners[n].Load())
	}
	assert.Greater(t, fresh, int(next.Load())/8, "this tests refusals only")
	for _, slot := range moved {
		assert.Equal(t, c.id(2), owner(t, c.nodes[0], slot))
	}
}

// owner returns the ID of the node that has a slot, as s sees it.
func owner(t testing.TB, s *server, slot int) (id string) {
	t.Helper()
	eventually(t, func() bool {
		entries, err := s.do("CLUSTER", "SLOTS").ToArray()
		require.NoError(t, err)
		for _, e := range entries {
			fields, _ := e.ToArray()
			first, _ := fields[0].AsInt64()
			last, _ := fields[1].AsInt64()
			if int(first) <= slot && slot <= int(last) {
				primary, _ := fields[2].ToArray()
				id, _ = primary[2].ToString()
			}
		}
		return id != ""
	})
	return id
}

// TestClusterRevokeMoved moves slots that some gateways don't look at. Revoked
// tokens are refused all the same.
func TestClusterRevokeMoved(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	by, idle, g := newGuard(t, c.config()), newGuard(t, c.config()), newGuard(t, c.config())
	require.Equal(t, "fresh", spend(idle, c.in(2)))

	// A server is added, unknown to the gateway that revokes.
	added := startServer(t, c.nodes[0].Args...)
	c.meet(added)
	c.nodes = append(c.nodes, added)
	c.agree()
	moved := make([]int, 500)
	for i := range moved {
		moved[i] = 4000 + i
	}
	c.move(0, 3, moved...)
	c.agree()
	there := func() token.Summary {
		for {
			if tok := c.in(0); c.slotOf(tok) >= 4000 && c.slotOf(tok) < 4500 {
				return tok
			}
		}
	}
	eventually(t, func() bool { return spend(g, there()) == "fresh" })
	tok := there()
	require.NoError(t, by.Revoke(ctx, token.Target{User: "user"}, time.Now()))
	assert.NotEqual(t, "fresh", spend(g, tok))
	assert.True(t, isRevoked(g, tok))

	// A server's lowest slot changes, unknown to the gateway that is asked.
	c.move(0, 2, 100)
	c.agree()
	time.Sleep(5100 * time.Millisecond)
	tok = c.in(2)
	tok.UserID = []byte("other")
	require.NoError(t, newGuard(t, c.config()).Revoke(ctx, token.Target{User: "other"}, time.Now()))
	assert.NotEqual(t, "fresh", spend(idle, tok))
	require.NoError(t, idle.Sync(ctx, noNews))
	assert.True(t, isRevoked(idle, tok))
}

// TestClusterSyncMoved: a server loses its lowest slot, and with it the name of
// its state, while a gateway has nothing to spend. The gateway learns of
// revocations all the same.
func TestClusterSyncMoved(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	idle := newGuard(t, c.config())
	require.NoError(t, idle.Sync(ctx, noNews))
	c.move(0, 2, 0)
	c.agree()
	require.NoError(t, newGuard(t, c.config()).Revoke(ctx, token.Target{User: "user"}, time.Now()))
	require.NoError(t, idle.Sync(ctx, noNews))
	assert.True(t, isRevoked(idle, c.in(0)))
}

// TestClusterNewContext stops one server of three. New does not wait for it
// longer than its context.
func TestClusterNewContext(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	c.nodes[1].Stop()
	defer c.nodes[1].Resume()
	conf := c.config()
	short, cancel := context.WithTimeout(ctx, conf.Timeout/4)
	defer cancel()
	began := time.Now()
	_, err := valkey.New(short, conf)
	assert.Equal(t, valkey.ErrCanceled, err)
	assert.Less(t, time.Since(began), conf.Timeout)
}

// TestClusterOthersContext: a spend waits for a connection that a revocation
// has begun to make, when the context of that ends. The spend makes another
// connection.
func TestClusterOthersContext(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	conf := c.config()
	var hold atomic.Bool
	dialing := make(chan struct{}, 1000)
	conf.Dialer = func(ctx context.Context, network, address string) (net.Conn, error) {
		if hold.Load() {
			dialing <- struct{}{}
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	g := newGuard(t, conf)
	tok := c.in(0)
	hold.Store(true)
	for _, s := range c.nodes {
		s.must("CLIENT", "KILL", "TYPE", "normal")
	}
	// This call finds the connections closed.
	short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	require.Error(t, g.Revoke(short, token.Target{User: "somebody"}, time.Now()))
	for len(dialing) > 0 {
		<-dialing
	}

	revoking, cancel := context.WithCancel(ctx)
	done := make(chan error)
	go func() { done <- g.Revoke(revoking, token.Target{User: "somebody"}, time.Now()) }()
	<-dialing
	outcome := make(chan string)
	go func() { outcome <- spend(g, tok) }()
	time.Sleep(100 * time.Millisecond) // until it waits
	hold.Store(false)
	cancel()
	assert.Equal(t, "fresh", <-outcome)
	<-done
}

// TestClusterRevokeStall stops the first server. The others learn of the
// revocation.
func TestClusterRevokeStall(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	conf := c.config()
	conf.Timeout = valkey.DefaultTimeout
	by, g := newGuard(t, conf), newGuard(t, conf)
	tok := c.in(2)
	c.nodes[0].Stop()
	defer c.nodes[0].Resume()
	assert.Error(t, by.Revoke(ctx, token.Target{User: "user"}, time.Now()))
	assert.Error(t, g.Sync(ctx, noNews))
	assert.True(t, isRevoked(g, tok))
}

// TestClusterNodeGone: a node dies with all it had, and another, empty, gets
// its slots.
func TestClusterNodeGone(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	conf := c.config()
	g := newGuard(t, conf)
	waitReady(t, g)
	gone, here := c.in(1), c.in(0)
	gone.IssuedAt = time.Now().Truncate(time.Second)
	require.Equal(t, "fresh", spend(g, gone))
	require.Equal(t, "fresh", spend(g, here))
	id := c.id(1)
	dead := c.nodes[1]
	dead.kill()
	require.Contains(t, []string{noConnection, noSlot}, spend(g, c.in(1)))
	assert.Equal(t, "fresh", spend(g, c.in(0)), "the others go on")
	assert.Equal(t, "spent", spend(g, here))

	c.nodes = []*server{c.nodes[0], c.nodes[2]}
	for _, s := range c.nodes {
		s.must("CLUSTER", "FORGET", id)
	}
	for _, s := range c.nodes {
		s.do("CLUSTER", "DELSLOTSRANGE", strconv.Itoa(slots/3), strconv.Itoa(slots*2/3-1))
	}
	c.nodes[0].must("CLUSTER", "ADDSLOTSRANGE", strconv.Itoa(slots/3), strconv.Itoa(slots*2/3-1))
	c.agree()
	n, err := c.nodes[0].do("EXISTS", valkey.DefaultPrefix+string(gone.TokenID[:])).AsInt64()
	require.NoError(t, err)
	require.Zero(t, n, "it was lost")
	assert.Equal(t, valkey.ErrDataLost.Error(), spend(g, gone))
	eventually(t, func() bool { return spend(g, c.in(1)) == "fresh" })
	assert.Equal(t, 2, g.Stats().Servers)
	assert.NotEqual(t, "fresh", spend(g, gone))
}

// TestClusterFailover: a replica takes over that lacks the last spends.
func TestClusterFailover(t *testing.T) {
	t.Parallel()
	c := startCluster(t, "--cluster-allow-replica-migration", "no")
	replica := startServer(t, "--cluster-enabled", "yes", "--cluster-node-timeout", "15000", "--cluster-require-full-coverage", "no")
	c.meet(replica)
	eventually(t, func() bool { // it knows its primary, slots and data
		replica.do("CLUSTER", "REPLICATE", c.id(1))
		return strings.Contains(mustString(t, replica, "CLUSTER", "INFO"), "cluster_slots_ok:16384") &&
			strings.Contains(mustString(t, replica, "INFO", "replication"), "master_link_status:up")
	})
	conf := c.config()
	early, g := newGuard(t, conf), newGuard(t, conf)
	require.Equal(t, "fresh", spend(early, c.in(1)))
	waitReady(t, g)
	replica.Stop()
	lost := c.in(1)
	lost.IssuedAt = time.Now().Truncate(time.Second)
	require.Equal(t, "fresh", spend(early, lost))
	c.nodes[1].kill()
	// What was on its way to the replica may arrive all the same. The guard
	// cannot know, so it refuses.
	replica.Resume()
	eventually(t, func() bool {
		replica.do("CLUSTER", "FAILOVER", "TAKEOVER")
		return strings.Contains(mustString(t, replica, "INFO", "replication"), "role:master")
	})
	assert.NotEqual(t, "fresh", spend(g, lost))
	assert.NotEqual(t, "fresh", spend(early, lost))
	eventually(t, func() bool { return spend(g, c.in(1)) == "fresh" })
	assert.GreaterOrEqual(t, g.Stats().Losses+early.Stats().Losses, uint64(4))
	assert.NotEqual(t, "fresh", spend(g, lost))
}

// TestClusterStall stops one node. The tokens of the others do not wait for it.
func TestClusterStall(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	g := newGuard(t, c.config())
	stalled, others := make([]token.Summary, 200), make([]token.Summary, 200)
	for i := range stalled {
		stalled[i], others[i] = c.in(1), c.in(2*(i%2))
	}
	c.nodes[1].Stop()
	var wg sync.WaitGroup
	for i := range stalled {
		wg.Go(func() { assert.Equal(t, timedOut, spend(g, stalled[i])) })
	}
	began := time.Now()
	for i := range others {
		assert.Equal(t, "fresh", spend(g, others[i]))
	}
	// A fraction of what one of them would have waited.
	t.Logf("%d spends in %v", len(others), time.Since(began))
	wg.Wait()
	c.nodes[1].Resume()
	eventually(t, func() bool { return spend(g, c.in(1)) == "fresh" })
}

// TestClusterNoMore: a node comes back as a server of its own, and the others
// go. The guard asks it who has their slots.
func TestClusterNoMore(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	g := newGuard(t, config(c.nodes[0].Address))
	here, gone := c.in(0), c.in(1)
	require.Equal(t, "fresh", spend(g, here))
	c.nodes[0].kill()
	c.nodes[0].Args = nil
	c.nodes[0].Restart()
	c.nodes[1].kill()
	c.nodes[2].kill()
	assert.NotEqual(t, "fresh", spend(g, gone))
	assert.NotEqual(t, "fresh", spend(g, here))
	assert.Equal(t, 3, g.Stats().Servers)
}

// TestClusterMuteAddress: the first address leads to a server that accepts
// connections and never answers. The guard asks the second one all the same: at
// first, and after the Cluster has moved.
func TestClusterMuteAddress(t *testing.T) {
	t.Parallel()
	alone := func() *server {
		s := startServer(t, "--cluster-enabled", "yes")
		s.must("CLUSTER", "ADDSLOTSRANGE", "0", strconv.Itoa(slots-1))
		eventually(t, func() bool { return strings.Contains(mustString(t, s, "CLUSTER", "INFO"), "cluster_state:ok") })
		return s
	}
	old, moved := alone(), alone()
	first, second := startProxy(t, old.Address), startProxy(t, old.Address)
	first.mute.Store(true)
	conf := config(first.address, second.address)
	conf.Timeout = valkey.DefaultTimeout
	g := newGuard(t, conf)
	require.Equal(t, "fresh", spend(g, unique()))

	first.target.Store(&moved.Address)
	second.target.Store(&moved.Address)
	old.kill()
	eventually(t, func() bool { return spend(g, unique()) == "fresh" })
}
