package chatserver_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/examples/internal/chatserver"
	"github.com/seed17cb2b26/chattoken/replay"
	"github.com/seed17cb2b26/chattoken/token"
)

// network is what the guards of a fleet have in common.
type network struct {
	revoked replay.Revocations
	down    atomic.Bool
	delay   time.Duration
}

var errDown = errors.New("down")

// member is a host's guard of a fleet, which knows what it has last heard.
type member struct {
	token.Guard
	net    *network
	synced atomic.Bool
}

func (m *member) RevokeUserInRoom(ctx context.Context, room, user string, before time.Time) error {
	select {
	case <-time.After(m.net.delay):
	case <-ctx.Done():
		return ctx.Err()
	}
	if m.net.down.Load() {
		return errDown
	}
	m.net.revoked.RevokeUserInRoom(time.Now(), room, user, before)
	return nil
}

func (m *member) Revoked(t claims.Summary) bool { return m.synced.Load() && m.net.revoked.Revoked(t) }

func (m *member) Sync(context.Context) error {
	if m.net.down.Load() {
		return errDown
	}
	m.synced.Store(true)
	return nil
}

// Who is disconnected on one host is so on the others, within seconds.
func TestDisconnectOnAnotherHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := &network{}
		keys := newShared(t)
		host := func() *chat { return keys.start(t, chatserver.Config{Guard: &member{Guard: newGuard(t), net: net}}) }
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

// Others hear of it, although the moderator goes away before it is done.
func TestDisconnectAndLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := &network{delay: time.Second}
		keys := newShared(t)
		host := func() *chat { return keys.start(t, chatserver.Config{Guard: &member{Guard: newGuard(t), net: net}}) }
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

// Where others cannot be told, the moderator is; on this host it is done.
func TestDisconnectWithoutTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := &network{}
		c := start(t, chatserver.Config{Guard: &member{Guard: newGuard(t), net: net}, GuardStats: func() any { return "stats" }})
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
		assert.Equal(t, 403, resp.StatusCode)
		assert.Contains(t, c.varsText(), `"guard":"stats"`)
	})
}

// A moderator's session ends before others could be told. The user's tokens are revoked
// by then, and so the connections end too.
func TestDisconnectAsTheSessionEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := &network{delay: time.Second}
		net.down.Store(true)
		c := start(t, chatserver.Config{Guard: &member{Guard: newGuard(t), net: net}})
		claim := user("mod", everything)
		claim.SessionMinutes = 1
		mod, ann := c.enter(claim), c.enter(user("ann", 0))
		time.Sleep(time.Minute - 500*time.Millisecond)
		mod.send(map[string]string{"Action": "DISCONNECT_USER", "UserId": "ann"})
		assert.Equal(t, 401, mod.next().ErrorCode)
		assert.EqualValues(t, 1008, ann.closed())
	})
}
