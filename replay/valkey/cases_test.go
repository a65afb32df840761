package valkey_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/replay"
	"github.com/seed17cb2b26/chattoken/replay/valkey"
	"github.com/seed17cb2b26/chattoken/replay/valkey/valkeytest"
	"github.com/seed17cb2b26/chattoken/token"
)

// each runs a test on every engine, at the same time.
func each(t *testing.T, test func(t *testing.T, engine string)) {
	t.Parallel()
	valkeytest.Each(t, func(t *testing.T, engine string) {
		t.Parallel()
		test(t, engine)
	})
}

// lead makes connections to p, now and later, lead to s.
func (p *proxy) lead(s *server) {
	p.target.Store(&s.Address)
	p.hangUp()
}

// notice makes guards notice which server they reach.
func notice(t testing.TB, guards ...*valkey.Guard) {
	t.Helper()
	for _, g := range guards {
		eventually(t, func() bool { return g.Sync(ctx, noNews) == nil })
	}
}

// TestLossKnownToOthers (F1): one gateway moves to a promoted replica long
// before the other, which spends meanwhile. The replica lacks what that one
// accepted, however long ago the first noticed.
func TestLossKnownToOthers(t *testing.T) {
	each(t, func(t *testing.T, engine string) {
		a, b := startEngine(t, engine), startEngine(t, engine)
		follow(t, b, a.Address)
		p1, p2 := startProxy(t, a.Address), startProxy(t, a.Address)
		g1, g2 := newGuard(t, config(p1.address)), newGuard(t, config(p2.address))
		b.must("REPLICAOF", "NO", "ONE")
		p2.lead(b)
		notice(t, g2)
		waitReady(t, g2)
		waitReady(t, g1)
		spent := honest()
		require.Equal(t, "fresh", spend(g1, spent))
		a.kill()
		p1.lead(b)
		assert.NotEqual(t, "fresh", spend(g1, spent))
	})
}

// TestLossesInOneSecond (F2): one name leads to three servers within a second,
// or to two of which one is emptied, and then to the first again.
func TestLossesInOneSecond(t *testing.T) {
	each(t, func(t *testing.T, engine string) {
		for _, way := range []string{"three servers", "two servers"} {
			t.Run(way, func(t *testing.T) {
				t.Parallel()
				a, b, c := startEngine(t, engine), startEngine(t, engine), startEngine(t, engine)
				p := startProxy(t, a.Address)
				time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(time.Second)))
				g := newGuard(t, config(p.address))
				p.lead(b)
				notice(t, g)
				if way == "two servers" {
					b.must("FLUSHALL")
				} else {
					p.lead(c)
				}
				notice(t, g)
				waitReady(t, g)
				spent := honest()
				require.Equal(t, "fresh", spend(g, spent))
				p.lead(a)
				assert.NotEqual(t, "fresh", spend(g, spent))
			})
		}
	})
}

// TestFastGateway (F3): an issuer and a gateway are ahead by more than the
// skew. That gateway does not start, and one whose clock goes wrong later
// refuses the tokens.
func TestFastGateway(t *testing.T) {
	each(t, func(t *testing.T, engine string) {
		s := startEngine(t, engine)
		off := 15 * time.Second
		c := config(s.Address)
		c.Now = func() time.Time { return time.Now().Add(off) }
		_, err := valkey.New(ctx, c)
		assert.ErrorIs(t, err, valkey.ErrClock)
		off = 0
		g := newGuard(t, c)
		off = 15 * time.Second
		now := c.Now()
		spent := tokenAt(1, now, time.Minute)
		assert.Equal(t, serverBehind, spendAt(g, now, spent))
		assert.ErrorIs(t, g.Sync(ctx, noNews), valkey.ErrClock)
		assert.EqualValues(t, 2, g.Stats().Reasons["server-behind"]+g.Stats().Reasons["server-ahead"]+1)
	})
}

// TestThereAndBackRestarted (F4): the fleet is configured for A, then B, then A
// again, and restarted each time.
func TestThereAndBackRestarted(t *testing.T) {
	each(t, func(t *testing.T, engine string) {
		a, b := startEngine(t, engine), startEngine(t, engine)
		newGuard(t, config(a.Address)).Close()
		g := newGuard(t, config(b.Address))
		waitReady(t, g)
		spent := honest()
		require.Equal(t, "fresh", spend(g, spent))
		g.Close()
		assert.NotEqual(t, "fresh", spend(newGuard(t, config(a.Address)), spent))
	})
}

// TestRevokeUnauthorized (F5): the server's user may not run all that a
// revocation needs. That fails at the start, and later at each call, also for
// an earlier moment. Once it may, every gateway learns of the revocation.
func TestRevokeUnauthorized(t *testing.T) {
	each(t, func(t *testing.T, engine string) {
		s := startEngine(t, engine)
		s.must("ACL", "SETUSER", "gateway", "on", ">secret", "+@all", "-zadd", "~*")
		c := config(s.Address)
		c.Username, c.Password = "gateway", "secret"
		_, err := valkey.New(ctx, c)
		require.Equal(t, valkey.ErrAuth, err)
		s.must("ACL", "SETUSER", "gateway", "+zadd")
		g, other := newGuard(t, c), newGuard(t, config(s.Address))
		now, live := time.Now(), unique()
		for _, command := range []string{"zadd", "incrby", "pexpire"} {
			s.must("ACL", "SETUSER", "gateway", "-"+command)
			assert.Equal(t, valkey.ErrAuth, g.Revoke(ctx, token.Target{User: "user"}, now), command)
			assert.Equal(t, valkey.ErrAuth, g.Revoke(ctx, token.Target{User: "user"}, now.Add(-time.Minute)), command)
			assert.Error(t, g.Revoked(live), "the local effect stands")
			s.must("ACL", "SETUSER", "gateway", "+"+command)
			now = now.Add(time.Second)
		}
		require.NoError(t, g.Revoke(ctx, token.Target{User: "user"}, now.Add(-time.Minute)))
		require.NoError(t, g.Revoke(ctx, token.Target{User: "user"}, now.Add(-time.Second)))
		require.NoError(t, other.Sync(ctx, noNews))
		assert.Equal(t, token.ErrRevoked, other.Revoked(live))
	})
}

// TestRevokeFutureStays (F6): a ban up to the far future, and then more
// revocations than there is room for. The ban does not become everyone's.
func TestRevokeFutureStays(t *testing.T) {
	each(t, func(t *testing.T, engine string) {
		const room = 20
		s := startEngine(t, engine)
		c := config(s.Address)
		c.MaxRevocations = room
		g := newGuard(t, c)
		now := time.Now()
		require.NoError(t, g.Revoke(ctx, token.Target{User: "banned"}, now.AddDate(1, 0, 0)))
		for i := range 3 * room {
			require.NoError(t, g.Revoke(ctx, token.Target{User: "user " + string(rune('a'+i))}, now.Add(-time.Hour)))
		}
		late := newGuard(t, c)
		for _, g := range []*valkey.Guard{g, late} {
			assert.Equal(t, token.ErrRevoked, g.Revoked(of("banned", "room")))
			assert.NoError(t, g.Revoked(of("someone else", "room")))
		}
	})
}

// TestRevokeTokens revokes single tokens until there is no room. The next one
// fails, because no other revocation could cover it.
func TestRevokeTokens(t *testing.T) {
	each(t, func(t *testing.T, engine string) {
		const room = 20
		s := startEngine(t, engine)
		c := config(s.Address)
		c.MaxRevocations = room
		g, other := newGuard(t, c), newGuard(t, c)
		tokens := make([]token.Summary, room/2+2)
		for i := range tokens {
			tokens[i] = unique()
			err := g.Revoke(ctx, token.Target{Token: tokens[i].TokenID}, time.Time{})
			if i > room/2 {
				assert.Equal(t, replay.ErrFull, err)
			} else {
				assert.NoError(t, err, i)
			}
		}
		require.NoError(t, g.Revoke(ctx, token.Target{Token: tokens[0].TokenID}, time.Time{}), "it is there")
		require.NoError(t, g.Revoke(ctx, token.Target{User: "somebody"}, time.Now().Add(-time.Hour)))
		for i := range room/2 + 1 {
			assert.Equal(t, token.ErrRevoked.Error(), spend(other, tokens[i]))
		}
		assert.Equal(t, "fresh", spend(other, unique()))
	})
}

// TestAcceptEvictionDiffers (F7): gateways of one fleet differ in a setting.
// They do not report losses to each other.
func TestAcceptEvictionDiffers(t *testing.T) {
	each(t, func(t *testing.T, engine string) {
		s := startEngine(t, engine)
		c := config(s.Address)
		strict := newGuard(t, c)
		c.AcceptEviction, c.AcceptNoAppendOnlyFile = true, true
		lax := newGuard(t, c)
		for range 5 {
			notice(t, strict, lax)
			tok := unique()
			assert.Equal(t, "fresh", spend(strict, tok))
			assert.Equal(t, "spent", spend(lax, tok))
		}
		assert.EqualValues(t, 1, strict.Stats().Losses)
		assert.EqualValues(t, 1, lax.Stats().Losses)
	})
}

// TestSynced (F8): Synced tells how old the knowledge of revocations is,
// whether anybody calls Sync or not.
func TestSynced(t *testing.T) {
	each(t, func(t *testing.T, engine string) {
		s := startEngine(t, engine)
		before := time.Now()
		g := newGuard(t, config(s.Address))
		made := g.Synced()
		assert.False(t, made.Before(before))
		assert.Equal(t, "fresh", spend(g, unique()))
		assert.Equal(t, made, g.Synced(), "a spend does not tell live sessions")
		require.NoError(t, g.Sync(ctx, noNews))
		synced := g.Synced()
		assert.True(t, synced.After(made))
		s.kill()
		assert.Error(t, g.Sync(ctx, noNews))
		assert.Equal(t, synced, g.Synced())
	})
}

// TestNews: each revocation is reported once, whoever fetched it.
func TestNews(t *testing.T) {
	each(t, func(t *testing.T, engine string) {
		s := startEngine(t, engine)
		by, g := newGuard(t, config(s.Address)), newGuard(t, config(s.Address))
		var got []token.Target
		hear := func(t token.Target, _ time.Time) { got = append(got, t) }
		targets := []token.Target{{User: "a"}, {Room: "r"}, {Room: "r", User: "a"}, {Token: unique().TokenID}}
		for i, target := range targets {
			at := time.Now().Add(-time.Hour)
			if target.Token != (token.ID{}) {
				at = time.Time{}
			}
			who := by
			if i == 0 {
				who = g
			}
			require.NoError(t, who.Revoke(ctx, target, at))
		}
		assert.Equal(t, "fresh", spend(g, unique()), "brings them")
		require.NoError(t, g.Sync(ctx, hear))
		assert.ElementsMatch(t, targets, got)
		got = nil
		require.NoError(t, g.Sync(ctx, hear))
		assert.Empty(t, got)
		require.NoError(t, by.Revoke(ctx, token.Target{Everyone: true}, time.Now().Add(-time.Hour)))
		require.NoError(t, g.Sync(ctx, hear))
		assert.Equal(t, []token.Target{{Everyone: true}}, got)
	})
}

// TestWriteBack: a server loses a revocation that the other gateway has not
// fetched yet. The gateway that made it writes it again.
func TestWriteBack(t *testing.T) {
	each(t, func(t *testing.T, engine string) {
		s := startEngine(t, engine)
		by, other := newGuard(t, config(s.Address)), newGuard(t, config(s.Address))
		live := unique()
		require.Equal(t, "fresh", spend(other, live))
		require.NoError(t, by.Revoke(ctx, token.Target{User: "user"}, time.Now()))
		s.must("FLUSHALL")
		notice(t, by)
		assert.NoError(t, other.Revoked(live))
		notice(t, other)
		assert.Equal(t, token.ErrRevoked, other.Revoked(live))
	})
}

// TestFrozenServer (F9): a server stands still for longer than a nonce lives.
// Meanwhile one gateway is led to another server, and spends there. The
// connection of the other gateway survives.
func TestFrozenServer(t *testing.T) {
	each(t, func(t *testing.T, engine string) {
		a, b := startEngine(t, engine), startEngine(t, engine)
		p := startProxy(t, a.Address)
		g1, g2 := newGuard(t, config(p.address)), newGuard(t, config(a.Address))
		waitReady(t, g2)
		a.Stop()
		stopped := time.Now()
		p.lead(b)
		notice(t, g1)
		waitReady(t, g1)
		spent := honest()
		require.Equal(t, "fresh", spend(g1, spent))
		time.Sleep(time.Until(stopped.Add(16 * time.Second)))
		a.Resume()
		assert.NotEqual(t, "fresh", spend(g2, spent))
	})
}

// TestBackTooSoon shows what no rule closes: the server of TestFrozenServer
// comes back before its nonce has ended. The gateway that was away still
// refuses.
func TestBackTooSoon(t *testing.T) {
	each(t, func(t *testing.T, engine string) {
		a, b := startEngine(t, engine), startEngine(t, engine)
		p := startProxy(t, a.Address)
		g1, g2 := newGuard(t, config(p.address)), newGuard(t, config(a.Address))
		waitReady(t, g2)
		a.Stop()
		p.lead(b)
		notice(t, g1)
		waitReady(t, g1)
		spent := honest()
		require.Equal(t, "fresh", spend(g1, spent))
		a.Resume()
		assert.Equal(t, "fresh", spend(g2, spent), "this is the gap: the documentation has to go if it is not there")
		other := honest()
		require.Equal(t, "fresh", spend(g1, other))
		p.lead(a)
		assert.Equal(t, valkey.ErrDataLost.Error(), spend(g1, other))
	})
}

// TestSplitBrain (F10) shows what no rule closes: two servers are primaries at
// the same time. It ends if the one that is cut off needs a replica to write.
func TestSplitBrain(t *testing.T) {
	each(t, func(t *testing.T, engine string) {
		a, b := startEngine(t, engine), startEngine(t, engine)
		follow(t, b, a.Address)
		p := startProxy(t, a.Address)
		g1, g2 := newGuard(t, config(p.address)), newGuard(t, config(a.Address))
		b.must("REPLICAOF", "NO", "ONE")
		p.lead(b)
		notice(t, g1)
		waitReady(t, g1)
		waitReady(t, g2)
		spent := honest()
		require.Equal(t, "fresh", spend(g2, spent))
		assert.Equal(t, "fresh", spend(g1, spent), "this is the gap: the documentation has to go if it is not there")
		a.must("CONFIG", "SET", "min-replicas-to-write", "1")
		assert.Equal(t, fewReplicas, spend(g2, unique()))

		// The former primary follows the new one, and is promoted.
		other := honest()
		require.Equal(t, "fresh", spend(g1, other))
		a.must("CONFIG", "SET", "min-replicas-to-write", "0")
		follow(t, a, b.Address)
		assert.Equal(t, readOnly, spend(g2, honest()))
		a.must("REPLICAOF", "NO", "ONE")
		assert.NotEqual(t, "fresh", spend(g2, other))
	})
}

// TestPromotedAgain (F11): a primary becomes a replica of its promoted replica,
// loses a token by that, gets its own nonce back, and is promoted again. The
// connection to it stays.
func TestPromotedAgain(t *testing.T) {
	each(t, func(t *testing.T, engine string) {
		a, b := startEngine(t, engine), startEngine(t, engine)
		link := startProxy(t, a.Address)
		follow(t, b, link.address)
		g := newGuard(t, config(a.Address))
		waitReady(t, g)
		require.Equal(t, "fresh", spend(g, honest()))
		link.target.Store(new(string))
		link.hangUp()
		spent := honest()
		require.Equal(t, "fresh", spend(g, spent))
		connections := g.Stats().Connections
		b.must("REPLICAOF", "NO", "ONE")
		follow(t, a, b.Address)
		a.must("REPLICAOF", "NO", "ONE")
		require.Equal(t, "0", mustString(t, a, "EXISTS", valkey.DefaultPrefix+string(spent.TokenID[:])), "it was lost")
		assert.NotEqual(t, "fresh", spend(g, spent))
		assert.Equal(t, connections, g.Stats().Connections)
	})
}

// TestNonceIsKept: an idle gateway extends the nonce beyond its life. Once the
// gateway is gone, the nonce ends.
func TestNonceIsKept(t *testing.T) {
	each(t, func(t *testing.T, engine string) {
		s := startEngine(t, engine)
		g := newGuard(t, config(s.Address))
		time.Sleep(16 * time.Second)
		assert.EqualValues(t, 1, g.Stats().Losses)
		assert.Equal(t, "fresh", spend(g, unique()))
		assert.EqualValues(t, 1, g.Stats().Losses)
		g.Close()
		life, err := s.do("PTTL", "chattoken:{0}:guard-nonce").AsInt64()
		require.NoError(t, err)
		assert.Positive(t, life)
		assert.LessOrEqual(t, life, int64(15_000))
	})
}
