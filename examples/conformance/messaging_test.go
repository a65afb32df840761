package conformance_test

import (
	"encoding/json"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// happening is what the chat SDK reports of one of its clients.
type happening struct {
	Client  string
	Event   string
	Token   string // of token
	Reason  string // of disconnect
	Code    int    // of rejected
	Message string // of rejected
	Data    struct {
		ID        string
		MessageID string `json:"messageId"`
		UserID    string `json:"userId"`
		Reason    string
		Content   string
		Sender    struct {
			UserID     string `json:"userId"`
			Attributes map[string]string
		}
		Attributes map[string]string
		SendTime   time.Time
	}
}

// clients are the clients of messaging.mjs.
type clients struct {
	script *script
	queued map[string][]happening // by client
}

func startClients(t testing.TB, s *server) *clients {
	t.Helper()
	return &clients{startScript(t, "node", "messaging.mjs", s.url), map[string][]happening{}}
}

// do tells a client what to do.
func (c *clients) do(t testing.TB, client, op string, members map[string]any) {
	t.Helper()
	command := map[string]any{"client": client, "op": op}
	maps.Copy(command, members)
	require.NoError(t, c.script.requests.Encode(command))
}

// next returns the next thing that happens to a client.
func (c *clients) next(t testing.TB, client string) happening {
	t.Helper()
	for len(c.queued[client]) == 0 {
		select {
		case line, ok := <-c.script.lines:
			require.True(t, ok, "the clients have ended")
			var h happening
			require.NoError(t, json.Unmarshal(line, &h), string(line))
			c.queued[h.Client] = append(c.queued[h.Client], h)
		case <-time.After(patience):
			require.Fail(t, "nothing happens to "+client)
		}
	}
	h := c.queued[client][0]
	c.queued[client] = c.queued[client][1:]
	return h
}

// expect checks that these are the next things that happen to a client, and
// returns the last.
func (c *clients) expect(t testing.TB, client string, events ...string) (h happening) {
	t.Helper()
	for _, event := range events {
		h = c.next(t, client)
		require.Equal(t, event, h.Event, "%s: %+v", client, h)
	}
	return h
}

// join connects a client and returns the token that it used.
func (c *clients) join(t testing.TB, client string, request map[string]any) (token string) {
	t.Helper()
	request["userId"] = client
	c.do(t, client, "connect", map[string]any{"request": request})
	token = c.expect(t, client, "connecting", "tokenWanted", "token").Token
	c.expect(t, client, "connect")
	return token
}

// conversation is three clients in a room of their own.
type conversation struct{ *clients }

var everyone = []string{"alice", "bob", "mod"}

var aliceSays = map[string]string{"displayName": "Alice", "badge": "\U0001F3C5"}

// TestMessagingSDK is a conversation of three clients of the chat SDK: one
// talks, one listens, one moderates.
func TestMessagingSDK(t *testing.T) {
	t.Parallel()
	needNode(t)
	c := conversation{startClients(t, startServer(t))}
	c.join(t, "alice", request("capabilities", []string{"SEND_MESSAGE"}, "attributes", aliceSays))
	c.join(t, "bob", request())
	c.join(t, "mod", request("capabilities", []string{"DELETE_MESSAGE", "DISCONNECT_USER"}))

	id := c.message(t)
	c.refusals(t, id)
	c.deletion(t, id)
	c.disconnection(t)
	c.do(t, "bob", "leave", nil)
	assert.Equal(t, "clientDisconnect", c.expect(t, "bob", "disconnect").Reason)
	for _, client := range everyone {
		assert.Empty(t, c.queued[client], client)
	}
}

// message sends a message and returns its ID. It arrives with the sender's name
// and attributes from the token.
func (c conversation) message(t *testing.T) (id string) {
	const content = "Hello, <b>world</b> \U0001F30D"
	attributes := map[string]string{"of": "the message"}
	c.do(t, "alice", "send", map[string]any{"content": content, "attributes": attributes})
	for _, client := range everyone {
		got := c.expect(t, client, "message").Data
		assert.Equal(t, content, got.Content)
		assert.Equal(t, "alice", got.Sender.UserID)
		assert.Equal(t, aliceSays, got.Sender.Attributes)
		assert.Equal(t, attributes, got.Attributes)
		assert.WithinDuration(t, time.Now(), got.SendTime, patience)
		id = got.ID
	}
	assert.Regexp(t, `^[a-zA-Z0-9]{12}$`, id)
	assert.Equal(t, id, c.expect(t, "alice", "resolved").Data.ID)
	return id
}

// refusals asks for what a token doesn't permit. The connections go on.
func (c conversation) refusals(t *testing.T, id string) {
	for _, test := range []struct {
		client, op string
		members    map[string]any
		code       int
	}{
		{"bob", "send", map[string]any{"content": "let me"}, 403},
		{"alice", "delete", map[string]any{"id": id}, 403},
		{"alice", "disconnectUser", map[string]any{"userId": "bob"}, 403},
		{"mod", "send", map[string]any{"content": "moderators moderate"}, 403},
		{"alice", "send", map[string]any{"content": ""}, 400},
		{"alice", "send", map[string]any{"content": strings.Repeat("\U0001F600", 501)}, 400},
	} {
		c.do(t, test.client, test.op, test.members)
		assert.Equal(t, test.code, c.expect(t, test.client, "rejected").Code, "%s: %s", test.client, test.op)
	}
}

func (c conversation) deletion(t *testing.T, id string) {
	c.do(t, "mod", "delete", map[string]any{"id": id, "reason": "too cheerful"})
	for _, client := range everyone {
		got := c.expect(t, client, "messageDelete").Data
		assert.Equal(t, id, got.MessageID)
		assert.Equal(t, "too cheerful", got.Reason)
		assert.Equal(t, id, got.Attributes["MessageId"], "the documentation's spelling")
	}
	c.expect(t, "mod", "resolved")
}

// disconnection is final for the client: it asks for no other token.
func (c conversation) disconnection(t *testing.T) {
	c.do(t, "mod", "disconnectUser", map[string]any{"userId": "alice", "reason": "still cheerful"})
	for _, client := range everyone {
		got := c.expect(t, client, "userDisconnect").Data
		assert.Equal(t, "alice", got.UserID)
		assert.Equal(t, "still cheerful", got.Reason)
	}
	c.expect(t, "mod", "resolved")
	assert.Equal(t, "serverDisconnect", c.expect(t, "alice", "disconnect").Reason)
}

// TestMessagingSDKRefused presents bad tokens. The client asks its provider
// three more times, and gives up.
func TestMessagingSDKRefused(t *testing.T) {
	t.Parallel()
	needNode(t)
	s := startServer(t)
	c := startClients(t, s)
	spent := c.join(t, "first", request())
	altered := []byte(mint(t, s, "altered"))
	if i := len(altered) / 2; altered[i] == 'A' {
		altered[i] = 'B'
	} else {
		altered[i] = 'A'
	}
	for client, token := range map[string]string{
		"second":  spent,
		"altered": string(altered),
		"foreign": "AQICAHiB.not_ours-1",
	} {
		c.do(t, client, "connect", map[string]any{"token": token})
		c.expect(t, client, "connecting", "tokenWanted", "tokenWanted", "tokenWanted", "tokenWanted")
		assert.Equal(t, "socketError", c.expect(t, client, "disconnect").Reason)
	}
	// The connection that the token opened goes on.
	c.do(t, "first", "leave", nil)
	assert.Equal(t, "clientDisconnect", c.expect(t, "first", "disconnect").Reason)
}
