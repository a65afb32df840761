//go:build unix

package etcd_test

import (
	"maps"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/seed17cb2b26/chattoken/replay"
	"github.com/seed17cb2b26/chattoken/replay/etcd"
	"github.com/seed17cb2b26/chattoken/replay/etcd/etcdtest"
	"github.com/seed17cb2b26/chattoken/token"
)

// news returns what a Sync reports.
func news(t testing.TB, g *etcd.Guard) map[token.Target]time.Time {
	t.Helper()
	all := map[token.Target]time.Time{}
	require.NoError(t, g.Sync(ctx, func(t token.Target, before time.Time) { all[t] = before }))
	return all
}

func TestRevoke(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t, 1)
	config := etcd.Config{Endpoints: c.Endpoints()}
	here, there := newGuard(t, config), newGuard(t, config)
	waitReady(t, here, there)
	one := issued(time.Now(), time.Minute)
	for name, target := range map[string]token.Target{
		"user":         {User: "alice"},
		"room":         {Room: "lobby"},
		"user in room": {Room: "a:b", User: "3:x"},
		"token":        {Token: one.TokenID},
	} {
		t.Run(name, func(t *testing.T) {
			s := issued(time.Now(), time.Minute)
			s.RoomIdentifier, s.UserID = []byte(target.Room), []byte(target.User)
			if target.Token != (token.ID{}) {
				s = one
			}
			moment := time.Now()
			if name == "token" {
				moment = time.Time{}
			}
			require.NoError(t, here.Revoke(ctx, target, moment))
			// No watch and no heartbeat is needed: the spend's own
			// transaction tells.
			_, err := there.Spend(ctx, time.Now(), s)
			assert.Equal(t, token.ErrRevoked, err)
			assert.Equal(t, token.ErrRevoked, there.Revoked(s))
			assert.Equal(t, token.ErrRevoked, here.Revoked(s))
			told := news(t, there)
			assert.Contains(t, told, target)
			assert.Equal(t, max(moment.Unix(), time.Time{}.Unix()), told[target].Unix())
			assert.Empty(t, news(t, there), "told once")
			assert.Contains(t, news(t, here), target, "the caller's own, too")
			later := newGuard(t, config)
			assert.Equal(t, token.ErrRevoked, later.Revoked(s))

			s.IssuedAt, s.TokenID[0] = time.Now().Add(10*time.Second).Truncate(time.Second), s.TokenID[0]+1
			assert.NoError(t, there.Revoked(s), "issued later, or another token")
		})
	}
	// The cluster keeps them for as long as the longest session.
	client := dial(t, c)
	reply, err := client.Get(ctx, etcd.DefaultPrefix+"revoked/", clientv3.WithPrefix())
	require.NoError(t, err)
	require.Len(t, reply.Kvs, 4)
	for _, kv := range reply.Kvs {
		l, err := client.TimeToLive(ctx, clientv3.LeaseID(kv.Lease))
		require.NoError(t, err)
		assert.InDelta(t, 3*60*60+60, l.TTL, 60, string(kv.Key))
	}
	// News comes without a Spend or a Sync, and after a compaction.
	s := issued(time.Now(), time.Minute)
	head, err := client.Get(ctx, "x")
	require.NoError(t, err)
	_, err = client.Compact(ctx, head.Header.Revision)
	require.NoError(t, err)
	require.NoError(t, here.Revoke(ctx, token.Target{Everyone: true}, time.Now()))
	eventually(t, func() bool { return there.Revoked(s) == token.ErrAllRevoked })
	assert.Equal(t, []token.Target{{Everyone: true}}, slices.Collect(maps.Keys(news(t, there))))

	// A later moment counts, an earlier one does not.
	require.NoError(t, there.Revoke(ctx, token.Target{User: "alice"}, time.Now().Add(-time.Hour)))
	require.NoError(t, there.Revoke(ctx, token.Target{User: "alice"}, time.Now().Add(time.Hour)))
	for range 2 {
		s = issued(time.Now().Add(59*time.Minute), time.Minute)
		s.UserID = []byte("alice")
		eventually(t, func() bool { return here.Revoked(s) == token.ErrRevoked })
		require.NoError(t, there.Revoke(ctx, token.Target{User: "alice"}, time.Now()))
	}
	assert.Error(t, here.Revoke(ctx, token.Target{}, time.Now()))
	assert.Error(t, here.Revoke(ctx, token.Target{User: "u"}, time.Time{}))
}

func TestRevokeUnreachable(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t, 1)
	config := etcd.Config{Endpoints: c.Endpoints(), Timeout: 500 * time.Millisecond}
	here, there := newGuard(t, config), newGuard(t, config)
	s := honest(time.Minute)
	target := token.Target{User: string(s.UserID)}
	moment := s.IssuedAt
	c.Members[0].Stop()
	before := here.Synced()
	require.ErrorIs(t, here.Revoke(ctx, target, moment), etcd.ErrUnreachable)
	assert.Equal(t, token.ErrRevoked, here.Revoked(s), "the local effect stands")
	assert.ErrorIs(t, here.Sync(ctx, func(token.Target, time.Time) {}), etcd.ErrUnreachable)
	assert.Less(t, here.Synced().Sub(before), 2*time.Second, "it does not claim to know")
	c.Members[0].Resume()
	eventually(t, func() bool { return here.Revoke(ctx, target, moment) == nil })
	eventually(t, func() bool { return there.Revoked(s) == token.ErrRevoked })
	assert.Contains(t, news(t, there), target)
}

// TestRevokeFuture revokes a user until tomorrow. Gateways that learn of it
// must not end everybody's sessions.
func TestRevokeFuture(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t, 1)
	config := etcd.Config{Endpoints: c.Endpoints()}
	here, there := newGuard(t, config), newGuard(t, config)
	s := issued(time.Now(), time.Minute)
	for i := range 8 {
		require.NoError(t, here.Revoke(ctx, token.Target{User: strconv.Itoa(i)}, time.Now()))
	}
	news(t, there)
	banned := token.Target{User: "banned"}
	require.NoError(t, here.Revoke(ctx, banned, time.Now().Add(24*time.Hour)))
	assert.Equal(t, []token.Target{banned}, slices.Collect(maps.Keys(news(t, there))))
	assert.NoError(t, there.Revoked(s))
	assert.Zero(t, there.Stats().Revocations.All)
}

// TestRevokeTokens lets two gateways revoke single tokens at the same moment,
// with room for one more each, and with none.
func TestRevokeTokens(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t, 1)
	for known, want := range map[int]error{2: nil, 3: replay.ErrFull} {
		t.Run(strconv.Itoa(known), func(t *testing.T) {
			t.Parallel()
			config := etcd.Config{Endpoints: c.Endpoints(), Prefix: t.Name(), MaxRevocations: 8}
			guards := []*etcd.Guard{newGuard(t, config), newGuard(t, config)}
			revoke := func(g *etcd.Guard) error {
				return g.Revoke(ctx, token.Target{Token: issued(time.Now(), time.Minute).TokenID}, time.Time{})
			}
			for range known {
				require.NoError(t, revoke(guards[0]))
			}
			news(t, guards[1])
			var wg sync.WaitGroup
			for _, g := range guards {
				wg.Go(func() { assert.Equal(t, want, revoke(g)) })
			}
			wg.Wait()
			guards = append(guards, newGuard(t, config))
			waitReady(t, guards...)
			for _, g := range guards {
				news(t, g)
				assert.Equal(t, replay.ErrFull, revoke(g))
				assert.Equal(t, "fresh", spend(g, issued(time.Now(), time.Minute)))
			}
		})
	}
}

// TestRevokeFull revokes more than there is room for. Here, at the cluster and
// at other gateways, the earliest moments become one; those of tokens never do.
func TestRevokeFull(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t, 1)
	config := etcd.Config{Endpoints: c.Endpoints(), MaxRevocations: 16}
	here, there := newGuard(t, config), newGuard(t, config)
	future := time.Now().Add(1000 * time.Hour)
	require.NoError(t, here.Revoke(ctx, token.Target{User: "banned for long"}, future))
	one := issued(time.Now(), time.Minute)
	require.NoError(t, here.Revoke(ctx, token.Target{Token: one.TokenID}, time.Time{}))
	begin := time.Now().Add(-time.Hour)
	for i := range 64 {
		require.NoError(t, here.Revoke(ctx, token.Target{User: strconv.Itoa(i)}, begin.Add(time.Duration(i)*time.Second)))
	}
	s := issued(begin, time.Minute)
	news(t, there)
	assert.Equal(t, token.ErrAllRevoked, there.Revoked(s))
	s.IssuedAt = future
	assert.NoError(t, there.Revoked(s), "the ban is not everyone's")
	s.UserID = []byte("banned for long")
	assert.Equal(t, token.ErrRevoked, there.Revoked(s))
	assert.Equal(t, token.ErrRevoked, there.Revoked(one))
	var err error
	for range 20 {
		if err = here.Revoke(ctx, token.Target{Token: issued(time.Now(), time.Minute).TokenID}, time.Time{}); err != nil {
			break
		}
	}
	assert.Equal(t, replay.ErrFull, err)
}
