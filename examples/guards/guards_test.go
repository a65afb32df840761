// Package guards_test runs one gateway on each guard. To go from one process to
// a fleet changes the line that makes the guard, and nothing else.
package guards_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/replay"
	"github.com/seed17cb2b26/chattoken/token"
	"github.com/seed17cb2b26/chattoken/token/tokentest"
)

// guard is what every guard can do.
type guard interface {
	token.Guard
	Revoke(ctx context.Context, t token.Target, issuedBefore time.Time) error
	Sync(ctx context.Context, news func(token.Target, time.Time)) error
	ReadyAt() time.Time
	Synced() time.Time
}

// gateway holds a request open for as long as its token's session lasts. Its
// owner calls Sync with endRevoked every second.
type gateway struct {
	opener token.Opener
	live   sync.Map // *token.Session to the function that ends it
}

func (g *gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	session := new(token.Session)
	text := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	if err := g.opener.Open(r.Context(), session, text); err != nil {
		http.Error(w, err.Error(), token.Action(err).HTTPStatus())
		return
	}
	ctx, end := context.WithDeadline(r.Context(), session.SessionExpiration())
	defer end()
	g.live.Store(session, end)
	defer g.live.Delete(session)
	if g.opener.Guard.Revoked(session.Summary()) != nil { // while it was opened
		end()
	}
	http.NewResponseController(w).Flush()
	<-ctx.Done()
}

func (g *gateway) endRevoked(token.Target, time.Time) {
	for session, end := range g.live.Range {
		if g.opener.Guard.Revoked(session.(*token.Session).Summary()) != nil {
			end.(context.CancelFunc)()
		}
	}
}

func TestMemory(t *testing.T) {
	ring := newRing(t)
	guard, err := replay.New(replay.Config{Limits: ring.Limits()})
	require.NoError(t, err)
	testGateway(t, ring, guard)
}

func newRing(t *testing.T) *keyring.Ring {
	t.Helper()
	ring, err := keyring.New(time.Now(), keyring.Config{Policy: keyring.Policy{ClockSkew: time.Second}})
	require.NoError(t, err)
	return ring
}

func testGateway(t *testing.T, ring *keyring.Ring, guard guard) {
	g := &gateway{opener: token.Opener{Ring: ring, Guard: guard}}
	require.NoError(t, g.opener.Validate())
	server := httptest.NewServer(g)
	t.Cleanup(server.Close)
	for time.Now().Before(guard.ReadyAt()) {
		time.Sleep(10 * time.Millisecond)
	}
	one, two, unused := mint(t, ring), mint(t, ring), mint(t, ring)
	first, second := connect(t, server, one), connect(t, server, two)
	assert.Equal(t, http.StatusOK, first.StatusCode)
	assert.Equal(t, http.StatusOK, second.StatusCode)
	assertRefused(t, token.ErrSpent, connect(t, server, one))

	require.NoError(t, guard.Revoke(t.Context(), token.Target{Token: one.ID}, time.Time{}))
	require.NoError(t, guard.Sync(t.Context(), g.endRevoked))
	text(t, first) // to its end
	assert.Equal(t, 1, g.size(), "the other session goes on")

	require.NoError(t, guard.Revoke(t.Context(), token.Target{User: tokentest.UserID}, time.Now()))
	require.NoError(t, guard.Sync(t.Context(), g.endRevoked))
	text(t, second)
	assertRefused(t, token.ErrRevoked, connect(t, server, unused))
	assert.WithinRange(t, guard.Synced(), guard.ReadyAt(), time.Now())
}

func mint(t *testing.T, ring *keyring.Ring) token.ChatToken {
	t.Helper()
	minted, err := (&token.Sealer{Ring: ring}).Create(tokentest.Claims())
	require.NoError(t, err)
	return minted
}

// connect presents a token. The connection ends with the test.
func connect(t *testing.T, server *httptest.Server, minted token.ChatToken) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, nil)
	require.NoError(t, err)
	r.Header.Set("Authorization", "Bearer "+minted.Token)
	resp, err := server.Client().Do(r)
	require.NoError(t, err)
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

func assertRefused(t *testing.T, why error, resp *http.Response) {
	t.Helper()
	assert.Equal(t, http.StatusUnauthorized, resp.StatusCode)
	assert.Equal(t, why.Error(), strings.TrimSpace(text(t, resp)))
}

func text(t *testing.T, resp *http.Response) string {
	t.Helper()
	data, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return string(data)
}

func (g *gateway) size() (n int) {
	for range g.live.Range {
		n++
	}
	return n
}
