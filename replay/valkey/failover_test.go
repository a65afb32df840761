package valkey_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/replay/valkey"
)

// TestReplica has a guard on a replica, on a server that becomes one, and one
// that was one in between.
func TestReplica(t *testing.T) {
	t.Parallel()
	primary := startServer(t)
	replica := startServer(t)
	follow(t, replica, primary.Address)
	_, err := valkey.New(ctx, config(replica.Address))
	require.Equal(t, valkey.ErrReadOnly, err)

	c := quick(primary.Address)
	g := newGuard(t, c)
	waitReady(t, g)
	spent, unused := honest(), honest()
	require.Equal(t, "fresh", spendHonest(g, spent))
	other := startServer(t)
	follow(t, primary, other.Address) // and loses all that it had
	assert.Equal(t, valkey.ErrReadOnly.Error(), spend(g, numbered(2)))
	primary.must("REPLICAOF", "NO", "ONE")
	assert.Equal(t, valkey.ErrDataLost.Error(), spendHonest(newGuard(t, c), spent))
	assert.NotEqual(t, "fresh", spendHonest(g, spent))
	assert.Equal(t, valkey.ErrDataLost.Error(), spendHonest(g, unused))
}

// follow makes s a replica, and waits until it has all.
func follow(t testing.TB, s *server, primary string) {
	t.Helper()
	_, port, _ := strings.Cut(primary, ":")
	s.must("REPLICAOF", "127.0.0.1", port)
	eventually(t, func() bool {
		text, err := s.do("INFO", "replication").ToString()
		return err == nil && strings.Contains(text, "master_link_status:up")
	})
}

// TestFailover cuts a replica off, spends, and promotes it.
func TestFailover(t *testing.T) {
	t.Parallel()
	primary, replica := startServer(t), startServer(t)
	p := startProxy(t, primary.Address) // the name that follows the primary
	link := startProxy(t, primary.Address)
	follow(t, replica, link.address)
	c := quick(p.address)
	first, g := newGuard(t, c), newGuard(t, c)
	waitReady(t, g)
	require.Equal(t, "fresh", spendHonest(first, honest()))
	link.target.Store(new(string))
	link.hangUp()
	spent, unused := honest(), honest()
	require.Equal(t, "fresh", spendHonest(first, spent))

	primary.Stop()
	replica.must("REPLICAOF", "NO", "ONE")
	p.target.Store(&replica.Address)
	p.hangUp()
	require.Equal(t, "0", mustString(t, replica, "EXISTS", valkey.DefaultPrefix+string(spent.TokenID[:])), "it was lost")
	assert.Equal(t, valkey.ErrDataLost.Error(), spendHonest(g, spent))
	assert.Equal(t, valkey.ErrDataLost.Error(), spendHonest(first, unused))
	waitReady(t, g)
	assert.Equal(t, "fresh", spendHonest(g, honest()))
	assert.NotEqual(t, "fresh", spendHonest(g, spent))
	primary.Resume()
}

// TestFailoverConnected has a name lead to the new primary, while the connection to
// the old one stays, which follows the new one.
func TestFailoverConnected(t *testing.T) {
	t.Parallel()
	primary, replica := startServer(t), startServer(t)
	follow(t, replica, primary.Address)
	p := startProxy(t, primary.Address)
	c := quick(p.address)
	g := newGuard(t, c)
	waitReady(t, g)
	spent := honest()
	require.Equal(t, "fresh", spendHonest(g, spent))
	replica.must("REPLICAOF", "NO", "ONE")
	p.target.Store(&replica.Address)
	follow(t, primary, replica.Address)
	assert.Equal(t, valkey.ErrDataLost.Error(), spendHonest(g, honest()))
	assert.NotEqual(t, "fresh", spendHonest(g, spent))
	waitReady(t, g)
	assert.Equal(t, "fresh", spendHonest(g, honest()))
}

// TestWait has each spend confirmed by a replica.
func TestWait(t *testing.T) {
	t.Parallel()
	primary, replica := startServer(t), startServer(t)
	follow(t, replica, primary.Address)
	c := config(primary.Address)
	c.Replicas = 1
	g := newGuard(t, c)
	eventually(t, func() bool { return spend(g, unique()) == "fresh" }) // the replica is ready
	for n := range uint64(50) {
		require.Equal(t, "fresh", spend(g, numbered(n)))
		require.Equal(t, "spent", spend(g, numbered(n)))
	}
	replica.Stop()
	assert.Equal(t, valkey.ErrReplicas.Error(), spend(g, numbered(100)))
	replica.Resume()
	eventually(t, func() bool { return spend(g, unique()) == "fresh" })
	assert.Equal(t, "spent", spend(g, numbered(100)), "it was refused, and stays spent")

	primary.must("CONFIG", "SET", "min-replicas-to-write", "2")
	assert.Equal(t, valkey.ErrReplicas.Error(), spend(g, numbered(101)))
}
