package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/replay/valkey/valkeytest"
	"github.com/seed17cb2b26/chattoken/token"
)

// hang is when a test has waited too long. It is no measure of speed.
const hang = time.Minute

func healthy(url string) bool {
	resp, err := http.Get(url + "/healthz")
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// join gets a token from the page's server.
func join(t *testing.T, url, user string) string {
	t.Helper()
	resp, err := http.Post(url+"/join", "application/json",
		strings.NewReader(`{"room":"g1H2I3j4k5L6","userId":"`+user+`","moderator":true}`))
	require.NoError(t, err)
	defer resp.Body.Close()
	var reply struct{ Token string }
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&reply))
	return reply.Token
}

// connect presents a token, and returns the status of the reply.
func connect(t *testing.T, url, token string) (*websocket.Conn, int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), hang)
	defer cancel()
	conn, resp, _ := websocket.Dial(ctx, strings.Replace(url, "http", "ws", 1)+"/", &websocket.DialOptions{Subprotocols: []string{token}})
	require.NotNil(t, resp)
	if conn != nil {
		t.Cleanup(func() { conn.CloseNow() })
	}
	return conn, resp.StatusCode
}

// Two hosts share keys and what was spent. While nobody can tell what was, users
// have to wait, and those who are in go on.
func TestValkey(t *testing.T) {
	server := valkeytest.Start(t)
	ring, kek := sealedRing(t)
	args := []string{"-valkey", server.Address, "-keyring", ring, "-kek", kek}
	here, there := started(t, args...), started(t, args...)
	require.Eventually(t, func() bool { return healthy(here) && healthy(there) }, hang, 100*time.Millisecond)

	text := join(t, here, "ann")
	ann, status := connect(t, there, text)
	require.Equal(t, http.StatusSwitchingProtocols, status)
	_, status = connect(t, here, text)
	assert.Equal(t, http.StatusUnauthorized, status, "spent on the other host")

	// A moderator on one host, the user on the other.
	mod, status := connect(t, here, join(t, here, "mod"))
	require.Equal(t, http.StatusSwitchingProtocols, status)
	unused := join(t, here, "ann")
	say(t, mod, `{"Action":"DISCONNECT_USER","RequestId":"r","UserId":"ann"}`)
	assert.Contains(t, hear(t, mod), `"RequestId":"r"`)
	ctx, cancel := context.WithTimeout(t.Context(), hang)
	defer cancel()
	_, _, err := ann.Read(ctx)
	assert.EqualValues(t, 1008, websocket.CloseStatus(err), err)
	_, status = connect(t, there, unused)
	assert.Equal(t, http.StatusUnauthorized, status)

	server.Kill()
	_, status = connect(t, here, join(t, here, "bob"))
	assert.Equal(t, http.StatusServiceUnavailable, status)
	say(t, mod, `{"Action":"SEND_MESSAGE","Content":"still here"}`)
	assert.Contains(t, hear(t, mod), "still here")
	say(t, mod, `{"Action":"DISCONNECT_USER","RequestId":"r2","UserId":"bob"}`)
	assert.Contains(t, hear(t, mod), `"ErrorCode":500`)
}

func say(t *testing.T, conn *websocket.Conn, message string) {
	t.Helper()
	require.NoError(t, conn.Write(t.Context(), websocket.MessageText, []byte(message)))
}

func hear(t *testing.T, conn *websocket.Conn) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), hang)
	defer cancel()
	_, data, err := conn.Read(ctx)
	require.NoError(t, err)
	return string(data)
}

// A server that cannot be asked is noticed at the start.
func TestValkeyIsNotThere(t *testing.T) {
	ring, kek := sealedRing(t)
	args := []string{"-listen", "127.0.0.1:0", "-keyring", ring, "-kek", kek, "-valkey", "127.0.0.1:1"}
	assert.ErrorIs(t, run(t.Context(), args, io.Discard, io.Discard), token.ErrUnavailable)
}
