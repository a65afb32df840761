package ivschat_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/ivschat"
	"github.com/seed17cb2b26/chattoken/token"
)

// renew presents another token and returns the answer.
func (p *peer) renew(token string) frame {
	p.chat.Helper()
	p.send(map[string]string{"Action": "chattoken:RENEW", "RequestId": "renew", "Token": token})
	return p.next()
}

// The connection goes on with the new token's deadline, capabilities and
// attributes.
func TestRenew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, ivschat.Config{})
		short := user("ann", claims.SendMessage)
		short.SessionMinutes = 1
		ann, bob := c.enter(short), c.enter(user("bob", 0))
		time.Sleep(50 * time.Second)

		next := user("ann", claims.SendMessage|claims.DeleteMessage)
		next.SessionMinutes = 2
		next.Attributes = map[string]string{"displayName": "Ann II"}
		f := ann.renew(c.mint(next))
		assert.Equal(t, "EVENT", f.Type)
		assert.Equal(t, "chattoken:RENEWED", f.EventName)
		assert.Equal(t, "renew", f.RequestID)
		ends := time.Now().Add(2 * time.Minute)
		assert.Equal(t, map[string]string{"SessionExpirationTime": ends.UTC().Format(time.RFC3339)}, f.Attributes)

		time.Sleep(time.Minute) // beyond the first session
		ann.say("still here")
		assert.Equal(t, "still here", ann.next().Content)
		seen := bob.next()
		assert.Equal(t, "still here", seen.Content, "others hear nothing of the renewal")
		assert.Equal(t, "Ann II", seen.Sender.Attributes["displayName"])
		ann.send(map[string]string{"Action": "DELETE_MESSAGE", "RequestId": "r", "Id": seen.ID})
		assert.Equal(t, "aws:DELETE_MESSAGE", ann.next().EventName)

		assert.Equal(t, 401, ann.next().ErrorCode)
		assert.WithinDuration(t, ends, time.Now(), 2*time.Second)
		assert.Equal(t, websocket.StatusPolicyViolation, ann.closed())
	})
}

// After a refusal the session goes on as it was. The code isn't 401, which
// would make the client connect again.
func TestRenewRefused(t *testing.T) {
	for name, test := range map[string]struct {
		token func(c *chat, own string) string
		code  int
		text  string
	}{
		"spent":        {func(_ *chat, own string) string { return own }, 403, "not renewed: spent"},
		"another user": {func(c *chat, _ string) string { return c.mint(user("bob", everything)) }, 403, "not renewed: another"},
		"another room": {func(c *chat, _ string) string {
			there := user("ann", everything)
			there.RoomIdentifier = other
			return c.mint(there)
		}, 403, "not renewed: another"},
		"no guard": {func(c *chat, _ string) string { return c.mint(user("ann", everything)) }, 503, "not renewed: unavailable"},
		"forged":   {func(c *chat, own string) string { return own[:len(own)-1] + "!" }, 403, "not renewed: invalid"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				guard := newGuard(t)
				c := start(t, ivschat.Config{Guard: guard})
				own := c.mint(user("ann", claims.SendMessage))
				ann, _, refused := c.try(own, nil)
				require.Empty(t, refused)
				if name == "no guard" {
					err := token.Unavailable("a test")
					guard.err.Store(&err)
				}
				f := ann.renew(test.token(c, own))
				assert.Equal(t, test.code, f.ErrorCode)
				assert.Equal(t, test.text, f.ErrorMessage)
				assert.Equal(t, "renew", f.RequestID)
				ann.say("still here")
				assert.Equal(t, "still here", ann.next().Content)
			})
		})
	}
}
