package main

import (
	"bufio"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/examples/internal/gatewaytest"
	"github.com/seed17cb2b26/chattoken/gateway"
	"github.com/seed17cb2b26/chattoken/token"
)

// listen asks for the events of a room.
func listen(t testing.TB, h *gatewaytest.House, room, text string, header http.Header) *http.Response {
	t.Helper()
	address := h.URL + "/events/" + room + "?token=" + url.QueryEscape(text)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	require.NoError(t, err)
	r.Header = header
	resp, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// enter starts a listener and reads the first event.
func enter(t testing.TB, h *gatewaytest.House, minted token.ChatToken) *bufio.Scanner {
	t.Helper()
	resp := listen(t, h, gatewaytest.Room, minted.Token, http.Header{"Sec-Fetch-Site": {"cross-site"}})
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.Equal(t, "text/event-stream", resp.Header.Get("Content-Type"))
	lines := bufio.NewScanner(resp.Body)
	require.True(t, lines.Scan())
	require.Equal(t, "event: time", lines.Text())
	return lines
}

// requireEnd reads to the end, and requires that the last event says why.
func requireEnd(t testing.TB, lines *bufio.Scanner, want string) {
	t.Helper()
	var all []string
	for lines.Scan() {
		all = append(all, lines.Text())
	}
	require.NoError(t, lines.Err())
	require.Equal(t, []string{"event: end", "data: " + want, ""}, all[len(all)-3:])
}

func TestRefused(t *testing.T) {
	h := gatewaytest.Start(t, newGateway)
	minted := h.MintFor("alice")
	evil := http.Header{"Origin": {"https://evil.example.com"}}
	assert.Equal(t, http.StatusForbidden, listen(t, h, gatewaytest.Room, minted.Token, evil).StatusCode)
	assert.Equal(t, http.StatusForbidden, listen(t, h, "another", minted.Token, nil).StatusCode)
	resp, err := http.Post(h.URL+"/events/lobby?token="+minted.Token, "", nil)
	require.NoError(t, err)
	resp.Body.Close()
	assert.Equal(t, http.StatusMethodNotAllowed, resp.StatusCode)
	h.RequireUnspent(t, minted)

	minted = h.MintFor("alice")
	enter(t, h, minted)
	for _, text := range []string{minted.Token, h.Expired()} {
		assert.Equal(t, http.StatusNoContent, listen(t, h, gatewaytest.Room, text, nil).StatusCode, "ends an EventSource")
	}
	for _, text := range []string{h.Forged(), ""} {
		assert.Equal(t, http.StatusUnauthorized, listen(t, h, gatewaytest.Room, text, nil).StatusCode)
	}
}

func TestEnded(t *testing.T) {
	h := gatewaytest.Start(t, newGateway)
	alice, bob := enter(t, h, h.MintFor("alice")), enter(t, h, h.MintFor("bob"))
	require.NoError(t, h.Env.Guard.Revoke(t.Context(), token.Target{User: "alice"}, h.Now()), "from elsewhere")
	requireEnd(t, alice, `{"code":4401,"reason":"revoked"}`)
	require.NoError(t, h.Revoke(t.Context(), token.Target{User: "bob"}, "spam\n\nevent: time"))
	requireEnd(t, bob, `{"code":4401,"reason":"spam\n\nevent: time"}`)
	requireEnd(t, enter(t, h, h.Almost("carol")), `{"code":4401,"reason":"session-expired"}`)

	// To renew, open another stream.
	enter(t, h, h.MintFor("carol"))
}

func TestDrained(t *testing.T) {
	h := gatewaytest.Start(t, newGateway)
	alice := enter(t, h, h.MintFor("alice"))
	minted := h.MintFor("bob")
	drained := make(chan error)
	go func() { drained <- h.Drain(t.Context(), 500*time.Millisecond, 0) }()
	require.Eventually(t, func() bool { return h.Ready(h.Now()) == gateway.ErrDraining }, time.Minute, time.Millisecond)
	assert.Equal(t, http.StatusServiceUnavailable, h.Healthy(t))
	resp := listen(t, h, gatewaytest.Room, minted.Token, nil)
	assert.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
	assert.Equal(t, "1", resp.Header.Get("Retry-After"))
	requireEnd(t, alice, `{"code":1012,"reason":"draining"}`)
	require.NoError(t, <-drained)
	h.RequireUnspent(t, minted)
}

// A client that is gone leaves the gateway.
func TestGone(t *testing.T) {
	h := gatewaytest.Start(t, newGateway)
	resp := listen(t, h, gatewaytest.Room, h.MintFor("alice").Token, nil)
	require.Equal(t, 1, h.Stats().Present)
	require.True(t, strings.HasPrefix(resp.Proto, "HTTP/1"))
	resp.Body.Close()
	require.Eventually(t, func() bool { return h.Stats().Present == 0 }, time.Minute, time.Millisecond)
}
