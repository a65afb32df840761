package gatewaytest

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/token"
)

// Program is an example whose clients open a WebSocket.
type Program struct {
	Make Make
	Dial Dial // by another library than the program's

	// Accepts says that it upgrades first and then closes, for browsers.
	Accepts bool
}

// ChatURL returns the URL of a room.
func (h *House) ChatURL(room string) string { return h.URL + "/chat/" + url.PathEscape(room) }

// Enter lets a user in.
func (p Program) Enter(t testing.TB, h *House, minted token.ChatToken) Conn {
	t.Helper()
	conn, status := p.Dial(t, h.ChatURL(Room), nil, minted.Token)
	require.Equal(t, http.StatusSwitchingProtocols, status)
	if p.Accepts { // what is read next may be the end
		require.Equal(t, "hello", conn.Say(t, "hello"))
	}
	return conn
}

// RequireRefused requires that a token is refused for a reason.
func (p Program) RequireRefused(t testing.TB, url, text string, wantStatus, wantCode int, wantReason string) {
	t.Helper()
	conn, status := p.Dial(t, url, nil, text)
	if !p.Accepts {
		require.Equal(t, wantStatus, status)
		return
	}
	require.Equal(t, http.StatusSwitchingProtocols, status)
	code, reason := conn.End(t)
	require.Equal(t, wantCode, code)
	require.Equal(t, wantReason, reason)
}

// requireEnd requires that a connection ends with a code and a reason.
func requireEnd(t testing.TB, conn Conn, wantCode int, wantReason string) {
	t.Helper()
	code, reason := conn.End(t)
	require.Equal(t, wantCode, code, reason)
	require.Equal(t, wantReason, reason)
}

// gone waits until the gateway has no participant.
func (h *House) gone(t testing.TB) {
	t.Helper()
	require.Eventually(t, func() bool { return h.Stats().Present == 0 }, patience, time.Millisecond)
}

// Test has clients do what they may, and what they may not.
func (p Program) Test(t *testing.T) {
	t.Run("refused", p.testRefused)
	t.Run("ended", p.testEnded)
	t.Run("session over", p.testSessionOver)
	t.Run("renewed", p.testRenewed)
	t.Run("drained", p.testDrained)
	t.Run("stopped", p.testStopped)
}

func (p Program) testRefused(t *testing.T) {
	h := Start(t, p.Make)
	minted := h.MintFor("alice")

	_, status := p.Dial(t, h.ChatURL(Room), http.Header{"Origin": {"https://evil.example.com"}}, minted.Token)
	require.Equal(t, http.StatusForbidden, status)
	h.RequireUnspent(t, minted)

	minted = h.MintFor("alice")
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, h.ChatURL(Room), nil)
	require.NoError(t, err)
	r.Header.Set("Sec-WebSocket-Protocol", minted.Token)
	resp, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	resp.Body.Close()
	require.Equal(t, http.StatusBadRequest, resp.StatusCode, "no handshake")
	h.RequireUnspent(t, minted)

	minted = h.MintFor("alice")
	p.RequireRefused(t, h.ChatURL("another"), minted.Token, 403, 4403, "room")
	h.RequireUnspent(t, minted)

	p.RequireRefused(t, h.ChatURL(Room), h.Spent(), 403, 4403, "room") // of another room
	minted = h.MintFor("alice")
	p.Enter(t, h, minted)
	p.RequireRefused(t, h.ChatURL(Room), minted.Token, 401, 4401, "spent")
	p.RequireRefused(t, h.ChatURL(Room), h.Forged(), 401, 4401, "invalid")
	p.RequireRefused(t, h.ChatURL(Room), h.UnknownKey(), 401, 4401, "invalid")
	p.RequireRefused(t, h.ChatURL(Room), h.Expired(), 401, 4401, "expired")
	p.RequireRefused(t, h.ChatURL(Room), "chat", 401, 4401, "no-token")
	require.Equal(t, 1, h.Stats().Live)
}

// Revoked while connected, with and without a reason.
func (p Program) testEnded(t *testing.T) {
	h := Start(t, p.Make)
	alice, bob, carol := h.MintFor("alice"), h.MintFor("bob"), h.MintFor("carol", func(c *claims.Claims) { c.Capabilities = 0 })
	a, b := p.Enter(t, h, alice), p.Enter(t, h, bob)
	c, status := p.Dial(t, h.ChatURL(Room), nil, carol.Token)
	require.Equal(t, http.StatusSwitchingProtocols, status)
	assert.Equal(t, "token: not permitted", c.Say(t, "hello"))
	assert.Equal(t, "hello", a.Say(t, "hello"))

	require.NoError(t, h.Revoke(t.Context(), token.Target{Token: alice.ID}, ""))
	requireEnd(t, a, 4401, "revoked")
	require.NoError(t, h.Env.Guard.Revoke(t.Context(), token.Target{User: "carol"}, h.Now()), "from elsewhere")
	requireEnd(t, c, 4401, "revoked")
	require.NoError(t, h.Revoke(t.Context(), token.Target{User: "bob", Room: Room}, strings.Repeat("spam, ", 30)))
	requireEnd(t, b, 4401, strings.Repeat("spam, ", 30)[:123])
	p.RequireRefused(t, h.ChatURL(Room), h.MintFor("bob").Token, 401, 4401, "revoked")
	h.gone(t)
}

func (p Program) testSessionOver(t *testing.T) {
	skipShort(t)
	t.Parallel()
	h := Start(t, p.Make)
	requireEnd(t, p.Enter(t, h, h.Almost("alice")), 4401, "session-expired")
	h.gone(t)
}

func (p Program) testRenewed(t *testing.T) {
	skipShort(t)
	t.Parallel()
	h := Start(t, p.Make)
	conn, lazy := p.Enter(t, h, h.Almost("alice")), p.Enter(t, h, h.Almost("alice"))

	bobs := h.MintFor("bob")
	assert.Equal(t, "gateway: refused: another", conn.Say(t, bobs.Token))
	h.RequireUnspent(t, bobs)
	assert.Equal(t, "gateway: refused: invalid", conn.Say(t, h.Forged()))
	assert.Equal(t, "hello", conn.Say(t, "hello"), "it goes on")

	minted := h.MintFor("alice")
	require.Equal(t, "renewed", conn.Say(t, minted.Token))
	assert.Equal(t, "gateway: refused: spent", conn.Say(t, minted.Token))
	requireEnd(t, lazy, 4401, "session-expired")
	assert.Equal(t, "hello", conn.Say(t, "hello"), "it goes on, longer than before")
}

// skipShort keeps slow tests out of short runs, which test other builds.
func skipShort(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("a long wait, in a short run")
	}
}

func (p Program) testDrained(t *testing.T) {
	t.Parallel()
	h := Start(t, p.Make)
	var conns []Conn
	for range 5 {
		conns = append(conns, p.Enter(t, h, h.MintFor("alice")))
	}
	minted := h.MintFor("bob")
	drained := make(chan error)
	go func() { drained <- h.Drain(t.Context(), 500*time.Millisecond, 500*time.Millisecond) }()
	require.Eventually(t, func() bool { return h.Healthy(t) == http.StatusServiceUnavailable }, patience, time.Millisecond)
	p.RequireRefused(t, h.ChatURL(Room), minted.Token, 503, 1012, "draining")
	for _, conn := range conns {
		requireEnd(t, conn, 1012, "draining")
	}
	require.NoError(t, <-drained)
	h.gone(t)
	h.RequireUnspent(t, minted)
}

func (p Program) testStopped(t *testing.T) {
	t.Parallel()
	h := Start(t, p.Make)
	conn := p.Enter(t, h, h.MintFor("alice"))
	minted := h.MintFor("bob")
	h.Stop()
	requireEnd(t, conn, 1012, "stopped")
	p.RequireRefused(t, h.ChatURL(Room), minted.Token, 503, 1013, "not-running")
	h.RequireUnspent(t, minted)
}
