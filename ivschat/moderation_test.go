package ivschat_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/ivschat"
	"github.com/seed17cb2b26/chattoken/replay"
)

// disconnect asks for the disconnection of a user, and returns the reply.
func (p *peer) disconnect(userID string) frame {
	p.chat.Helper()
	id := rand.Text()
	p.send(map[string]string{"Action": "DISCONNECT_USER", "RequestId": id, "UserId": userID, "Reason": "spam"})
	for {
		if f := p.next(); f.RequestID == id {
			return f
		}
	}
}

func TestDisconnectUser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, ivschat.Config{})
		mod := c.enter(user("mod", everything))
		ann, again := c.enter(user("ann", claims.SendMessage)), c.enter(user("ann", 0))
		bob := c.enter(user("bob", claims.SendMessage))
		elsewhere := user("ann", claims.SendMessage)
		elsewhere.RoomIdentifier = other
		annElsewhere := c.enter(elsewhere)
		unused, unusedElsewhere := c.mint(user("ann", 0)), c.mint(elsewhere)

		reply := mod.disconnect("ann")
		for _, f := range []frame{reply, ann.next(), again.next(), bob.next()} {
			assert.Equal(t, "EVENT", f.Type)
			assert.Equal(t, "aws:DISCONNECT_USER", f.EventName)
			assert.Equal(t, map[string]string{"UserId": "ann", "Reason": "spam"}, f.Attributes)
		}
		assert.EqualValues(t, 1008, ann.closed())
		assert.EqualValues(t, 1008, again.closed())

		_, resp, _ := c.try(unused, nil)
		assert.Equal(t, 401, resp.StatusCode, "what was minted before is revoked")
		_, _, refused := c.try(unusedElsewhere, nil)
		assert.Empty(t, refused, "another room is another matter")
		bob.say("still here")
		assert.Equal(t, "still here", bob.next().Content)
		annElsewhere.say("still here")
		assert.Equal(t, "still here", annElsewhere.next().Content)

		// A user who may come back must wait for the clock skew.
		_, resp, _ = c.try(c.mint(user("ann", 0)), nil)
		assert.Equal(t, 401, resp.StatusCode)
		time.Sleep(2 * time.Second)
		c.enter(user("ann", 0))
	})
}

func TestDisconnectOneself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, ivschat.Config{})
		mod := c.enter(user("mod", everything))
		assert.Equal(t, "aws:DISCONNECT_USER", mod.disconnect("mod").EventName)
		assert.EqualValues(t, 1008, mod.closed())
	})
}

// A moderator disconnects a user whose token is admitted, but not in the room
// yet. The token must open nothing.
func TestDisconnectWhileOpening(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(t)
		c := start(t, ivschat.Config{Guard: g})
		mod := c.enter(user("mod", everything))
		g.entered, g.proceed = make(chan struct{}), make(chan struct{})
		opened := c.entering(user("ann", everything))
		<-g.entered
		mod.disconnect("ann")
		time.Sleep(2 * time.Second) // Sync finds nobody either
		close(g.proceed)
		assert.Nil(t, <-opened)
		synctest.Wait()
		assert.Equal(t, 1, c.Live())
	})
}

// The same race many times, at any moment. Afterwards no connection with an
// earlier token is left.
func TestDisconnectRace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, ivschat.Config{MessageRate: 1000})
		mod := c.enter(user("mod", everything))
		const rounds, connections = 20, 8
		for i := range rounds {
			name := fmt.Sprint("user", i)
			var connecting sync.WaitGroup
			for range connections {
				text := c.mint(user(name, claims.SendMessage))
				connecting.Go(func() {
					conn, _, err := c.dial(text, nil)
					if err == nil { // a reader that sees the end
						conn.Read(context.Background())
						conn.CloseNow()
					}
				})
			}
			mod.disconnect(name)
			connecting.Wait()
			synctest.Wait()
			assert.Equal(t, 1, c.Live())
		}
		v := c.vars()
		t.Logf("of %d, %d were let in and then closed, %d refused", rounds*connections, v.Opened-1, v.Refused["revoked"])
		assert.Equal(t, rounds*connections, v.Opened-1+v.Refused["revoked"])
	})
}

// Nobody sees a user's message after the event of the user's disconnection.
func TestNothingAfterDisconnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, ivschat.Config{MessageRate: 1000})
		mod := c.enter(user("mod", everything))
		watcher := c.enter(user("watcher", 0))
		for i := range 20 {
			name := fmt.Sprint("user", i)
			ann := c.enter(user(name, claims.SendMessage))
			talking := make(chan struct{})
			go func() {
				defer close(talking)
				for n := range 100 {
					if ann.conn.Write(context.Background(), 1, []byte(`{"Action":"SEND_MESSAGE","Content":"x"}`)) != nil {
						return
					}
					if n%10 == 9 { // no more at once than a reader can take
						time.Sleep(time.Millisecond)
					}
				}
			}()
			watcher.next() // it has begun
			time.Sleep(3 * time.Millisecond)
			mod.disconnect(name) // while the next ones come
			<-talking
			synctest.Wait()
			over := false
			for len(watcher.frames) > 0 {
				f := watcher.next()
				assert.False(t, over, "%+v after the end", f)
				over = f.Type == "EVENT"
			}
			assert.True(t, over)
		}
	})
}

// The same for a message that is under way.
func TestSendAfterEnd(t *testing.T) {
	before, after := ivschat.SendAfterEnd()
	assert.Equal(t, 1, before)
	assert.Zero(t, after)
}

// A slow client gets everything from before its end, and then the close frame,
// though the room goes on.
func TestCloseInABusyRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, ivschat.Config{MessageRate: 1000})
		mod, bob := c.enter(user("mod", everything)), c.enter(user("bob", claims.SendMessage))
		ann, _, err := c.dial(c.mint(user("ann", 0)), nil)
		require.NoError(t, err)
		mod.disconnect("ann")
		for range 2 * ivschat.QueueLen {
			bob.say("hello")
			for bob.next().Type != "MESSAGE" {
			}
		}
		_, _, err = ann.Read(t.Context())
		require.NoError(t, err, "the event")
		_, _, err = ann.Read(t.Context())
		assert.EqualValues(t, 1008, websocket.CloseStatus(err), err)
	})
}

// However many moderators a room has, their disconnections can't affect other
// rooms.
func TestDisconnectRate(t *testing.T) {
	const kept = 3 * time.Hour
	assert.Less(t, ivschat.DisconnectBurst+ivschat.DisconnectRate*int(kept/time.Second), replay.DefaultMaxRevocations/4)
	synctest.Test(t, func(t *testing.T) {
		c := start(t, ivschat.Config{MessageRate: 1000})
		mods := []*peer{c.enter(user("mod", everything)), c.enter(user("mod", everything))}
		claim := user("mod", everything)
		claim.RoomIdentifier = other
		elsewhere := c.enter(claim)
		for i := range ivschat.DisconnectBurst {
			assert.Equal(t, "EVENT", mods[i%2].disconnect(fmt.Sprint("user ", i)).Type)
		}
		for _, mod := range mods {
			assert.Equal(t, 429, mod.disconnect("ann").ErrorCode)
		}
		assert.Equal(t, "EVENT", elsewhere.disconnect("ann").Type)
		time.Sleep(time.Second)
		assert.Equal(t, "EVENT", mods[0].disconnect("ann").Type)
	})
}

func TestDeleteMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, ivschat.Config{})
		mod, ann := c.enter(user("mod", everything)), c.enter(user("ann", claims.SendMessage))
		ann.say("spam")
		id := ann.next().ID
		assert.Equal(t, id, mod.next().ID)
		mod.send(map[string]string{"Action": "DELETE_MESSAGE", "RequestId": "r", "Id": id})
		reply, seen := mod.next(), ann.next()
		assert.Equal(t, "r", reply.RequestID)
		assert.Equal(t, "r", seen.RequestID)
		for _, f := range []frame{reply, seen} {
			assert.Equal(t, "EVENT", f.Type)
			assert.Equal(t, "aws:DELETE_MESSAGE", f.EventName)
			assert.Equal(t, map[string]string{"MessageID": id, "MessageId": id}, f.Attributes)
		}
	})
}

// Every action takes its own capability and no other.
func TestCapabilities(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, ivschat.Config{})
		requests := map[claims.Capabilities]map[string]string{
			claims.SendMessage:    {"Action": "SEND_MESSAGE", "RequestId": "r", "Content": "x"},
			claims.DeleteMessage:  {"Action": "DELETE_MESSAGE", "RequestId": "r", "Id": "abcdefABCD01"},
			claims.DisconnectUser: {"Action": "DISCONNECT_USER", "RequestId": "r", "UserId": "nobody"},
		}
		for may := range everything + 1 {
			p := c.enter(user("ann", may))
			for needs, request := range requests {
				p.send(request)
				f := p.next()
				assert.Equal(t, "r", f.RequestID)
				if may.Has(needs) {
					assert.NotEqual(t, "ERROR", f.Type, "%v by %v", request, may)
				} else {
					assert.Equal(t, 403, f.ErrorCode, "%v by %v", request, may)
				}
			}
			p.conn.CloseNow()
			synctest.Wait()
		}
	})
}
