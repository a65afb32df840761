package conformance_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/claims"
)

// frame has what these tests need of the gateway's frames.
type frame struct {
	Type   string
	Sender struct {
		UserID     string `json:"UserId"`
		Attributes map[string]string
	}
	Content   string
	ErrorCode int
}

// dial presents a token to the gateway. It returns the connection, or the
// status of the refusal.
func dial(t testing.TB, s *server, token string) (*websocket.Conn, int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, resp, err := websocket.Dial(ctx, "ws://"+s.address(), &websocket.DialOptions{Subprotocols: []string{token}})
	if err != nil {
		require.NotNil(t, resp, "%v", err)
		return nil, resp.StatusCode
	}
	t.Cleanup(func() { conn.CloseNow() })
	assert.Equal(t, token, conn.Subprotocol(), "a browser fails the connection without the echo")
	return conn, http.StatusSwitchingProtocols
}

// connect presents a token that must be accepted.
func connect(t testing.TB, s *server, token string) *websocket.Conn {
	t.Helper()
	conn, status := dial(t, s, token)
	require.NotNil(t, conn, "refused with %d", status)
	return conn
}

// say sends a message and returns the first frame it gets.
func say(t testing.TB, conn *websocket.Conn, content string) (f frame) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	request, err := json.Marshal(map[string]string{"Action": "SEND_MESSAGE", "RequestId": "1", "Content": content})
	require.NoError(t, err)
	require.NoError(t, conn.Write(ctx, websocket.MessageText, request))
	// Others may use the room at the same time.
	for f.Content != content && f.Type != "ERROR" {
		f = frame{}
		_, data, err := conn.Read(ctx)
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(data, &f))
	}
	return f
}

// checkToken connects with a token, and checks that it grants what was asked
// for and that it doesn't work again.
func checkToken(t testing.TB, s *server, token string, request map[string]any) {
	t.Helper()
	conn := connect(t, s, token)
	got := say(t, conn, token[len(token)-20:])
	capabilities, _ := request["capabilities"].([]string)
	if !slices.Contains(capabilities, "SEND_MESSAGE") {
		assert.Equal(t, 403, got.ErrorCode)
	} else {
		attributes, _ := request["attributes"].(map[string]string)
		assert.Equal(t, request["userId"], got.Sender.UserID)
		assert.Equal(t, attributes, got.Sender.Attributes)
	}
	again, status := dial(t, s, token)
	assert.Nil(t, again)
	assert.Equal(t, http.StatusUnauthorized, status)
	conn.Close(websocket.StatusNormalClosure, "")
}

// visitor keeps no connections, because a server that shuts down waits for
// unused ones.
var visitor = http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}

// mint asks for a token as the page does, quickly and without a client. The
// user "moderator" is a moderator.
func mint(t testing.TB, s *server, userID string) string {
	t.Helper()
	resp, err := visitor.Post(s.url+"/join", "application/json",
		strings.NewReader(fmt.Sprintf(`{"room":"g1H2I3j4k5L6","userId":%q,"displayName":"Demo","moderator":%t}`, userID, userID == "moderator")))
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, http.StatusOK, resp.StatusCode)
	var reply struct {
		Token                 string
		SessionExpirationTime time.Time
		Claims                claims.Claims
	}
	members := json.NewDecoder(resp.Body)
	members.DisallowUnknownFields() // with tokenExpirationTime, the chat SDK would reconnect for nothing
	require.NoError(t, members.Decode(&reply))
	assert.True(t, reply.SessionExpirationTime.After(time.Now()))
	assert.Equal(t, userID, reply.Claims.UserID)
	return reply.Token
}
