package valkey_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/replay/valkey"
)

// TestReplica runs a guard on a replica, on a server that becomes one, and on
// one that was one in between.
func TestReplica(t *testing.T) {
	t.Parallel()
	primary := startServer(t)
	replica := startServer(t)
	follow(t, replica, primary.Address)
	_, err := valkey.New(ctx, config(replica.Address))
	require.EqualError(t, err, readOnly)

	c := config(primary.Address)
	g := newGuard(t, c)
	waitReady(t, g)
	spent, unused := honest(), honest()
	require.Equal(t, "fresh", spend(g, spent))
	other := startServer(t)
	follow(t, primary, other.Address) // and loses all its data
	assert.Equal(t, readOnly, spend(g, numbered(2)))
	primary.must("REPLICAOF", "NO", "ONE")
	assert.Equal(t, valkey.ErrDataLost.Error(), spend(newGuard(t, c), spent))
	assert.NotEqual(t, "fresh", spend(g, spent))
	assert.Equal(t, valkey.ErrDataLost.Error(), spend(g, unused))
}

// follow makes s a replica, and waits until it has all data.
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
	c := config(p.address)
	first, g := newGuard(t, c), newGuard(t, c)
	waitReady(t, g)
	require.Equal(t, "fresh", spend(first, honest()))
	link.target.Store(new(string))
	link.hangUp()
	spent, unused := honest(), honest()
	require.Equal(t, "fresh", spend(first, spent))

	primary.Stop()
	replica.must("REPLICAOF", "NO", "ONE")
	p.target.Store(&replica.Address)
	p.hangUp()
	require.Equal(t, "0", mustString(t, replica, "EXISTS", valkey.DefaultPrefix+string(spent.TokenID[:])), "it was lost")
	assert.Equal(t, valkey.ErrDataLost.Error(), spend(g, spent))
	assert.Equal(t, valkey.ErrDataLost.Error(), spend(first, unused))
	settle(t, g, first)
	assert.Equal(t, "fresh", spend(g, honest()))
	assert.NotEqual(t, "fresh", spend(g, spent))
	primary.Resume()
}

// TestFailoverConnected leads a name to the new primary. The connection to the
// old one stays, which now follows the new one.
func TestFailoverConnected(t *testing.T) {
	t.Parallel()
	primary, replica := startServer(t), startServer(t)
	follow(t, replica, primary.Address)
	p := startProxy(t, primary.Address)
	c := config(p.address)
	g := newGuard(t, c)
	waitReady(t, g)
	spent := honest()
	require.Equal(t, "fresh", spend(g, spent))
	replica.must("REPLICAOF", "NO", "ONE")
	p.target.Store(&replica.Address)
	follow(t, primary, replica.Address)
	assert.Equal(t, valkey.ErrDataLost.Error(), spend(g, honest()))
	assert.NotEqual(t, "fresh", spend(g, spent))
	waitReady(t, g)
	assert.Equal(t, "fresh", spend(g, honest()))
}
