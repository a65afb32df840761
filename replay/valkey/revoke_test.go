package valkey_test

import (
	"context"
	"fmt"
	"math"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/replay"
	"github.com/seed17cb2b26/chattoken/replay/valkey"
	"github.com/seed17cb2b26/chattoken/replay/valkey/valkeytest"
	"github.com/seed17cb2b26/chattoken/token"
)

// of returns a fresh token of a user in a room.
func of(user, room string) token.Summary {
	t := unique()
	t.UserID, t.RoomIdentifier = []byte(user), []byte(room)
	return t
}

var revoked, allRevoked = token.ErrRevoked.Error(), token.ErrAllRevoked.Error()

func TestRevoke(t *testing.T) {
	t.Parallel()
	type call func(g *valkey.Guard, before time.Time) error
	user := func(id string) call {
		return func(g *valkey.Guard, before time.Time) error { return g.Revoke(ctx, token.Target{User: id}, before) }
	}
	room := func(id string) call {
		return func(g *valkey.Guard, before time.Time) error { return g.Revoke(ctx, token.Target{Room: id}, before) }
	}
	both := func(r, u string) call {
		return func(g *valkey.Guard, before time.Time) error {
			return g.Revoke(ctx, token.Target{Room: r, User: u}, before)
		}
	}
	all := func(g *valkey.Guard, before time.Time) error {
		return g.Revoke(ctx, token.Target{Everyone: true}, before)
	}
	targets := [][2]string{{"a", "r"}, {"a", "s"}, {"b", "r"}, {"b", "s"}, {"1:a", "r"}, {"ra", "r"}, {"é\x00", "s s"}}
	for _, tt := range []struct {
		name string
		call call
		hits string
	}{
		{"a user", user("a"), "a@r a@s"},
		{"a room", room("r"), "a@r b@r 1:a@r ra@r"},
		{"a user in a room", both("r", "a"), "a@r"},
		{"all", all, "a@r a@s b@r b@s 1:a@r ra@r é\x00@s s"},
		{"someone else", user("nobody"), ""},
		{"odd names", both("s s", "é\x00"), "é\x00@s s"},
		{"a name like another's length and name", user("1:a"), "1:a@r"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t)
			by, other := newGuard(t, config(s.Address)), newGuard(t, config(s.Address))
			tokens := make([]token.Summary, len(targets))
			for i, target := range targets {
				tokens[i] = of(target[0], target[1])
			}
			require.NoError(t, tt.call(by, time.Now()))
			late := newGuard(t, config(s.Address))
			var hits []string
			for i, target := range targets {
				tok := tokens[i]
				outcome := spend(other, tok)
				refused := outcome == revoked || outcome == allRevoked
				assert.Equal(t, refused, isRevoked(other, tok), "of a live session")
				assert.Equal(t, tt.name == "all", outcome == allRevoked)
				assert.Equal(t, refused, spend(by, tok) == outcome)
				assert.Equal(t, refused, spend(late, tok) == outcome, "that started after it")
				if refused {
					hits = append(hits, target[0]+"@"+target[1])
				} else {
					assert.Equal(t, "fresh", outcome)
				}
			}
			assert.Equal(t, tt.hits, strings.Join(hits, " "))
		})
	}
}

// TestRevokeBefore checks the rule of whole seconds and skew.
func TestRevokeBefore(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	by, other := newGuard(t, config(s.Address)), newGuard(t, config(s.Address))
	now := time.Now()
	at := func(issued time.Time) string {
		tok := of("user", "room")
		tok.IssuedAt = issued.Truncate(time.Second)
		return map[bool]string{true: revoked, false: "fresh"}[isRevoked(other, tok)]
	}
	ahead := of("user", "room")
	ahead.ClockSkew = 10 * time.Second
	ahead.IssuedAt = now.Truncate(time.Second).Add(-time.Second)
	require.NoError(t, by.Revoke(ctx, token.Target{User: "user"}, now.Add(-10*time.Second)))
	require.NoError(t, other.Sync(ctx, noNews))
	assert.True(t, isRevoked(other, ahead), "by a ring with a larger skew than the guard was told of")
	ahead.IssuedAt = ahead.IssuedAt.Add(2 * time.Second)
	assert.False(t, isRevoked(other, ahead))
	before := now.Truncate(time.Second).Add(-1500 * time.Millisecond)
	require.NoError(t, by.Revoke(ctx, token.Target{User: "user"}, before))
	require.NoError(t, other.Sync(ctx, noNews))
	assert.Equal(t, revoked, at(now.Add(-time.Second)), "floor(before) + 1 s is the last second")
	assert.Equal(t, "fresh", at(now))
	require.NoError(t, by.Revoke(ctx, token.Target{User: "user"}, before.Add(-time.Hour)))
	require.NoError(t, other.Sync(ctx, noNews))
	assert.Equal(t, revoked, at(now.Add(-time.Second)), "the latest moment counts")
	require.NoError(t, by.Revoke(ctx, token.Target{User: "user"}, time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)))
	assert.Equal(t, revoked, spend(other, of("user", "room")))
	require.NoError(t, by.Revoke(ctx, token.Target{Room: "for ever"}, time.Unix(math.MaxInt64, 0)))
	assert.True(t, isRevoked(by, of("someone", "for ever")))
	require.NoError(t, other.Sync(ctx, noNews))
	assert.True(t, isRevoked(other, of("someone", "for ever")))
	assert.Error(t, by.Revoke(ctx, token.Target{}, now))
	assert.Error(t, by.Revoke(ctx, token.Target{Room: "room", Everyone: true}, now))
	assert.Error(t, by.Revoke(ctx, token.Target{Room: strings.Repeat("x", 1000)}, now))
}

// TestRevokeAtOnce lets many gateways spend while one revokes. Whatever begins
// after the revocation has returned is refused everywhere.
func TestRevokeAtOnce(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	by := newGuard(t, config(s.Address))
	guards := []*valkey.Guard{newGuard(t, config(s.Address)), newGuard(t, config(s.Address)), newGuard(t, config(s.Address))}
	const users = 100
	done := make([]chan struct{}, users)
	for i := range done {
		done[i] = make(chan struct{})
	}
	var wg sync.WaitGroup
	for _, g := range guards {
		for range 4 {
			wg.Go(func() {
				for i := range users {
					user := fmt.Sprint("user ", i)
					for running := true; running; {
						select {
						case <-done[i]:
							running = false
						default:
						}
						outcome := spend(g, of(user, "room"))
						if !running {
							assert.Equal(t, revoked, outcome)
						} else {
							assert.Contains(t, []string{revoked, "fresh"}, outcome)
						}
					}
				}
			})
		}
	}
	for i := range users {
		// A minute ahead: what the others spend meanwhile was issued
		// before.
		assert.NoError(t, by.Revoke(ctx, token.Target{User: fmt.Sprint("user ", i)}, time.Now().Add(time.Minute)))
		close(done[i])
	}
	wg.Wait()
}

// TestRevokeCommands counts what a spend sends while there are revocations.
// They take no command of their own, except for the first spend after each.
func TestRevokeCommands(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	by, g := newGuard(t, config(s.Address)), newGuard(t, config(s.Address))
	require.NoError(t, by.Revoke(ctx, token.Target{User: "other"}, time.Now()))
	require.Equal(t, "fresh", spend(g, unique()))
	s.must("CONFIG", "RESETSTAT")
	for range 20 {
		require.Equal(t, "fresh", spend(g, unique()))
	}
	stats := mustString(t, s, "INFO", "commandstats")
	assert.Contains(t, stats, "cmdstat_set:calls=20,")
	assert.NotContains(t, stats, "cmdstat_eval")
}

// TestSync: an idle gateway learns of a revocation.
func TestSync(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	by, idle := newGuard(t, config(s.Address)), newGuard(t, config(s.Address))
	live := numbered(1)
	require.Equal(t, "fresh", spend(idle, live))
	require.NoError(t, by.Revoke(ctx, token.Target{User: "user"}, time.Now()))
	assert.False(t, isRevoked(idle, live))
	require.NoError(t, idle.Sync(ctx, nil))
	assert.True(t, isRevoked(idle, live))
	var news []token.Target
	require.NoError(t, idle.Sync(ctx, func(t token.Target, _ time.Time) { news = append(news, t) }))
	assert.Equal(t, []token.Target{{User: "user"}}, news, "nobody was told yet")

	s.Stop()
	short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	assert.Error(t, idle.Sync(short, noNews))
	assert.Error(t, by.Revoke(short, token.Target{User: "other"}, time.Now()))
	s.Resume()
	assert.True(t, isRevoked(by, of("other", "room")), "it is in force where it was called, for safety")
}

// TestSyncTwice: a revocation comes after one Sync has asked, and before
// another is called. The second must not use the answer to the first.
func TestSyncTwice(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	p := startProxy(t, s.Address)
	by, g := newGuard(t, config(s.Address)), newGuard(t, config(p.address))
	p.delay.Store(int64(500 * time.Millisecond))
	var wg sync.WaitGroup
	wg.Go(func() { assert.NoError(t, g.Sync(ctx, noNews)) })
	time.Sleep(200 * time.Millisecond)
	tok := numbered(1)
	require.NoError(t, by.Revoke(ctx, token.Target{User: "user"}, time.Now()))
	require.NoError(t, g.Sync(ctx, noNews))
	assert.True(t, isRevoked(g, tok))
	wg.Wait()
}

// TestRevokeWhileSyncing: a Sync has asked, then a revocation comes, and a
// spend begins before that Sync is done. The Sync's answer is not enough for
// the spend.
func TestRevokeWhileSyncing(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	p := startProxy(t, s.Address)
	by, g := newGuard(t, config(s.Address)), newGuard(t, config(p.address))
	// The guard has just asked the server.
	require.Equal(t, "fresh", spend(g, unique()))
	require.NoError(t, by.Revoke(ctx, token.Target{User: "other"}, time.Now()))
	p.delay.Store(int64(500 * time.Millisecond))
	// The script that fetches revocations begins like this.
	fetch := token.ID([]byte("local reply = {r"))
	p.awaited.Store(&fetch)
	var wg sync.WaitGroup
	wg.Go(func() { assert.NoError(t, g.Sync(ctx, noNews)) })
	eventually(t, func() bool { return p.awaited.Load() == nil })
	// For the server to answer; the reply is on its way.
	time.Sleep(100 * time.Millisecond)
	tok := numbered(1)
	require.NoError(t, by.Revoke(ctx, token.Target{User: "user"}, time.Now()))
	assert.Equal(t, revoked, spend(g, tok))
	wg.Wait()
}

// TestRevokeMany revokes more than there is room for. Everyone's mark rises to
// that of the oldest, and all revocations stay.
func TestRevokeMany(t *testing.T) {
	t.Parallel()
	const room, many = 50, 2500 // more than a page
	s := startServer(t)
	for _, tt := range []struct {
		name    string
		entries int
		all     bool // someone is revoked whom nobody named
	}{
		{"roomy", many + 1, false},
		{"full", room, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := config(s.Address)
			c.Prefix = tt.name
			c.MaxRevocations = tt.entries
			g := newGuard(t, c)
			start := time.Now().Add(-10 * time.Minute)
			for i := range many {
				// Each is later than the one before.
				require.NoError(t, g.Revoke(ctx, token.Target{User: fmt.Sprint(i)}, start.Add(time.Duration(i)*time.Second/5)))
			}
			// Or its own lack of room would hide the server's.
			c.MaxRevocations = many + 1
			late := newGuard(t, c)
			for i := range many {
				issued := start.Add(time.Duration(i) * time.Second / 5)
				tok := of(fmt.Sprint(i), "room")
				tok.IssuedAt = issued
				require.True(t, isRevoked(late, tok), i)
			}
			tok := of("someone else", "room")
			tok.IssuedAt = tok.IssuedAt.Add(-9 * time.Minute)
			assert.Equal(t, tt.all, isRevoked(late, tok))
			n, err := s.do("ZCARD", tt.name+"{0}:guard-order").AsInt64()
			require.NoError(t, err)
			assert.LessOrEqual(t, n, int64(tt.entries+1))
			marks, err := s.do("ZCARD", tt.name+"{0}:guard-marks").AsInt64()
			require.NoError(t, err)
			assert.Equal(t, n, marks)
			for _, key := range []string{"marks", "order"} {
				ttl, err := s.do("TTL", tt.name+"{0}:guard-"+key).AsInt64()
				require.NoError(t, err)
				assert.InDelta(t, 3*3600+60, ttl, hang.Seconds())
			}
		})
	}
}

// TestRevokeManyKnown revokes more than there is room for. Gateways that were
// there all the time revoke nobody whom a new gateway does not.
func TestRevokeManyKnown(t *testing.T) {
	t.Parallel()
	const room = 40
	s := startServer(t)
	c := config(s.Address)
	c.MaxRevocations = room
	g, other := newGuard(t, c), newGuard(t, c)
	start := time.Now().Add(-time.Hour)
	moment := func(i int) time.Time { return start.Add(time.Duration(i) * time.Second) }
	for i := range 5 * room {
		require.NoError(t, g.Revoke(ctx, token.Target{User: fmt.Sprint(i)}, moment(i)))
		// Look when it has just become too many, and later.
		if i%room != room/10 {
			continue
		}
		require.NoError(t, g.Sync(ctx, noNews))
		require.NoError(t, other.Sync(ctx, noNews))
		roomy := c
		// Otherwise its own lack of room would hide the server's.
		roomy.MaxRevocations = 100 * room
		late := newGuard(t, roomy)
		for j := range i {
			tok := of("someone else", "room")
			tok.IssuedAt = moment(j)
			for name, g := range map[string]*valkey.Guard{"who revokes": g, "another": other} {
				require.Equal(t, isRevoked(late, tok), isRevoked(g, tok), "%s, after %d, of %d", name, i, j)
			}
		}
	}
}

// TestRevokeFar has to fetch so many revocations from so far away that no call
// has time for all. Each continues where the one before ended.
func TestRevokeFar(t *testing.T) {
	t.Parallel()
	const pages, page = 20, 1000
	s := startServer(t)
	p := startProxy(t, s.Address)
	c := config(p.address)
	c.Timeout = time.Second
	g := newGuardAtLast(t, c)
	later := strconv.FormatInt(time.Now().Add(time.Hour).Unix(), 10)
	for i := range pages {
		order, marks := []string{"ZADD", "chattoken:{0}:guard-order"}, []string{"ZADD", "chattoken:{0}:guard-marks"}
		for j := range page {
			rank := strconv.Itoa(page*i + j + 1)
			order, marks = append(order, rank, "u0:user"+rank), append(marks, later, "u0:user"+rank)
		}
		s.must(order...)
		s.must(marks...)
	}
	s.must("SET", "chattoken:{0}:guard-revision", strconv.Itoa(pages*page))
	p.delay.Store(int64(2 * c.Timeout / pages))
	require.Error(t, g.Sync(ctx, noNews), "each page takes that long")
	eventually(t, func() bool { return g.Sync(ctx, noNews) == nil })
	for _, i := range []int{1, page, page + 1, pages * page} {
		assert.True(t, isRevoked(g, of("user"+strconv.Itoa(i), "room")))
	}
}

// TestRevokeFullAndWorse: a server without room for a token also changes
// meanwhile, or cannot be reached. That takes precedence over being full.
func TestRevokeFullAndWorse(t *testing.T) {
	t.Parallel()
	one := token.Target{Token: token.ID{1}}
	f := startFake(t)
	g := newGuard(t, config(f.address))
	f.say("insert", ":1\r\n")
	assert.Equal(t, replay.ErrFull, g.Revoke(ctx, one, time.Time{}))
	f.say("TIME", "-OOM command not allowed\r\n")
	assert.EqualError(t, g.Revoke(ctx, one, time.Time{}), outOfMemory)

	// The first server is full, and the other refuses.
	fakes, _, c := startOwners(t)
	for _, of := range fakes {
		ranges := "*2\r\n"
		for i, first := range []string{":0\r\n:8191\r\n", ":8192\r\n:16383\r\n"} {
			host, port, _ := net.SplitHostPort(fakes[i].address)
			ranges += "*3\r\n" + first + "*2\r\n" + bulk(host) + ":" + port + "\r\n"
		}
		of.say("CLUSTER", ranges)
	}
	g = newGuard(t, c)
	fakes[0].say("insert", ":1\r\n")
	assert.Equal(t, replay.ErrFull, g.Revoke(ctx, one, time.Time{}))
	fakes[1].say("insert", "-OOM command not allowed\r\n")
	assert.EqualError(t, g.Revoke(ctx, one, time.Time{}), outOfMemory)
}

// TestRevokeAway: while its server is away, a gateway revokes as many tokens as
// there may be revocations, and others as many as the server has room for. All
// of them fit.
func TestRevokeAway(t *testing.T) {
	t.Parallel()
	const room = 4
	s := startServer(t)
	p := startProxy(t, s.Address)
	c := config(s.Address)
	c.MaxRevocations = room
	other := newGuard(t, c)
	c.Addresses, c.Timeout = []string{p.address}, 500*time.Millisecond
	g := newGuardAtLast(t, c)
	nowhere := valkeytest.FreeAddress(t)
	p.target.Store(&nowhere)
	p.hangUp()
	for i := range room {
		require.ErrorIs(t, g.Revoke(ctx, token.Target{Token: token.ID{1, byte(i)}}, time.Time{}), valkey.ErrUnreachable)
	}
	tok := unique()
	require.NoError(t, other.Revoke(ctx, token.Target{Token: tok.TokenID}, time.Time{}))
	require.NoError(t, other.Revoke(ctx, token.Target{Token: token.ID{2}}, time.Time{}))
	p.target.Store(&s.Address)
	eventually(t, func() bool {
		outcome := spend(g, unique())
		require.NotEqual(t, replay.ErrFull.Error(), outcome)
		return outcome == "fresh"
	})
	assert.True(t, isRevoked(g, tok))
}

// TestRevokeOver makes revocations that have outlived the longest session. The
// next one clears them away.
func TestRevokeOver(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	g := newGuard(t, config(s.Address))
	for i := range 40 {
		require.NoError(t, g.Revoke(ctx, token.Target{User: fmt.Sprint(i)}, time.Now().Add(-4*time.Hour)))
	}
	n, err := s.do("ZCARD", "chattoken:{0}:guard-order").AsInt64()
	require.NoError(t, err)
	assert.LessOrEqual(t, n, int64(2), "everyone, and the latest")
	assert.Equal(t, "fresh", spend(g, of("1", "room")))
}

// TestRevokeLost: the server loses its revocations. Their tokens are refused
// because they were issued before that.
func TestRevokeLost(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := config(s.Address)
	g := newGuard(t, c)
	tok, others := honest(), of("other", "room")
	require.NoError(t, g.Revoke(ctx, token.Target{User: "user"}, time.Now()))
	s.must("FLUSHALL")
	late := newGuard(t, c)
	assert.NotEqual(t, "fresh", spend(late, tok))
	assert.Equal(t, revoked, spend(g, tok), "who knew, knows")
	require.NoError(t, g.Revoke(ctx, token.Target{User: "other"}, time.Now()))
	require.NoError(t, late.Sync(ctx, noNews))
	assert.True(t, isRevoked(late, others), "the revisions begin again, and are followed")
}

// TestRevokeFlushed revokes right after the server lost everything. That must
// not restore the state that says that nothing is missing.
func TestRevokeFlushed(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	g := newGuard(t, config(s.Address))
	waitReady(t, g)
	tok := honest()
	require.Equal(t, "fresh", spend(g, tok))
	s.must("FLUSHALL")
	require.NoError(t, g.Revoke(ctx, token.Target{User: "other"}, time.Now()))
	assert.Equal(t, valkey.ErrDataLost.Error(), spend(g, tok))
}
