package ivschat_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/ivschat"
	"github.com/seed17cb2b26/chattoken/replay"
	"github.com/seed17cb2b26/chattoken/token"
	"github.com/seed17cb2b26/chattoken/token/tokentest"
)

// network connects the guards of a fleet.
type network struct {
	members []*member
	down    atomic.Bool
	delay   time.Duration
}

var errDown = errors.New("down")

// member is a host's guard of a fleet.
type member struct {
	*replay.Guard
	net *network
}

func (n *network) newMember(t *testing.T) *member {
	m := &member{tokentest.New(t).Guard, n}
	n.members = append(n.members, m)
	return m
}

func (m *member) Revoke(ctx context.Context, t token.Target, issuedBefore time.Time) error {
	m.Guard.Revoke(ctx, t, issuedBefore)
	select {
	case <-time.After(m.net.delay):
	case <-ctx.Done():
		return ctx.Err()
	}
	if m.net.down.Load() {
		return errDown
	}
	for _, other := range m.net.members {
		other.Guard.Revoke(ctx, t, issuedBefore)
	}
	return nil
}

func (m *member) Sync(ctx context.Context, news func(token.Target, time.Time)) error {
	if m.net.down.Load() {
		return errDown
	}
	return m.Guard.Sync(ctx, news)
}

// What another host revokes ends exactly the sessions it concerns.
func TestRevokedOnAnotherHost(t *testing.T) {
	everywhere := []string{"ann", "again", "bob", "elsewhere"}
	for name, test := range map[string]struct {
		target token.Target // the zero one stands for ann's token
		ended  []string
	}{
		"token":         {token.Target{}, everywhere[:1]},
		"user and room": {token.Target{Room: lobby, User: "ann"}, everywhere[:2]},
		"room":          {token.Target{Room: lobby}, everywhere[:3]},
		"user":          {token.Target{User: "ann"}, []string{"ann", "again", "elsewhere"}},
		"everyone":      {token.Target{Everyone: true}, everywhere},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGuard(t)
				c := start(t, ivschat.Config{Guard: g})
				elsewhere := user("ann", claims.SendMessage)
				elsewhere.RoomIdentifier = other
				sealer := c.Sealer()
				minted, err := sealer.Create(user("ann", claims.SendMessage))
				require.NoError(t, err)
				ann, _, _ := c.try(minted.Token, nil)
				peers := map[string]*peer{
					"ann": ann, "again": c.enter(user("ann", claims.SendMessage)),
					"bob": c.enter(user("bob", claims.SendMessage)), "elsewhere": c.enter(elsewhere),
				}
				target := test.target
				if target == (token.Target{}) {
					target.Token = minted.ID
				} else {
					require.NoError(t, g.Revoke(t.Context(), target, time.Now().Add(-time.Minute)))
					time.Sleep(2 * time.Second)
					assert.Equal(t, len(peers), c.Live(), "their tokens are of later")
				}
				require.NoError(t, g.Revoke(t.Context(), target, time.Now()))
				time.Sleep(2 * time.Second)
				for name, p := range peers {
					if slices.Contains(test.ended, name) {
						assert.EqualValues(t, 1008, p.closed(), name)
					}
				}
				assert.Equal(t, len(peers)-len(test.ended), c.Live())
			})
		})
	}
}

// A user disconnected on one host is disconnected on the others within seconds.
func TestDisconnectOnAnotherHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := &network{}
		keys := newShared(t)
		host := func() *chat { return keys.start(t, ivschat.Config{Guard: net.newMember(t)}) }
		here, there := host(), host()
		time.Sleep(10 * time.Second)
		mod, ann := here.enter(user("mod", everything)), there.enter(user("ann", claims.SendMessage))
		bob := there.enter(user("bob", claims.SendMessage))
		mod.disconnect("ann")
		began := time.Now()
		assert.EqualValues(t, 1008, ann.closed())
		assert.LessOrEqual(t, time.Since(began), 3*time.Second)
		bob.say("still here")
		assert.Equal(t, "still here", bob.next().Content)
	})
}

// Other hosts hear of it even if the moderator goes away first.
func TestDisconnectAndLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := &network{delay: time.Second}
		keys := newShared(t)
		host := func() *chat { return keys.start(t, ivschat.Config{Guard: net.newMember(t)}) }
		here, there := host(), host()
		time.Sleep(10 * time.Second)
		mod, bob := here.enter(user("mod", everything)), here.enter(user("bob", claims.SendMessage))
		ann := there.enter(user("ann", 0))
		mod.send(map[string]string{"Action": "DISCONNECT_USER", "UserId": "ann"})
		synctest.Wait()
		mod.conn.CloseNow()
		bob.say("the server notices that mod is gone")
		assert.EqualValues(t, 1008, ann.closed())
	})
}

// If other hosts can't be told, the moderator gets an error. On this host it's
// done.
func TestDisconnectWithoutTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := &network{}
		c := start(t, ivschat.Config{Guard: net.newMember(t), GuardStats: func() any { return "stats" }})
		mod, ann := c.enter(user("mod", everything)), c.enter(user("ann", 0))
		unused := c.mint(user("ann", 0))
		net.down.Store(true)
		reply := mod.disconnect("ann")
		assert.Equal(t, 500, reply.ErrorCode)
		event := mod.next()
		assert.Equal(t, "aws:DISCONNECT_USER", event.EventName)
		assert.Empty(t, event.RequestID, "it did not succeed")
		assert.Equal(t, "aws:DISCONNECT_USER", ann.next().EventName)
		assert.EqualValues(t, 1008, ann.closed())
		_, resp, _ := c.try(unused, nil)
		assert.Equal(t, 401, resp.StatusCode)
		assert.Contains(t, c.varsText(), `"guard":"stats"`)
	})
}

// A moderator's session ends before other hosts know. The user's tokens are
// revoked by then, so the connections end, too.
func TestDisconnectAsTheSessionEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := &network{delay: time.Second}
		net.down.Store(true)
		c := start(t, ivschat.Config{Guard: net.newMember(t)})
		claim := user("mod", everything)
		claim.SessionMinutes = 1
		mod, ann := c.enter(claim), c.enter(user("ann", 0))
		time.Sleep(time.Minute - 500*time.Millisecond)
		mod.send(map[string]string{"Action": "DISCONNECT_USER", "UserId": "ann"})
		assert.Equal(t, 401, mod.next().ErrorCode)
		assert.EqualValues(t, 1008, ann.closed())
	})
}
