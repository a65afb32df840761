// Package gatewaytest tests the example gateways with real clients.
package gatewaytest

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/gateway"
	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/token"
	"github.com/seed17cb2b26/chattoken/token/tokentest"
)

// Room is the room of the tokens.
const Room = "lobby"

// Make makes the gateway of a program, and its handler.
type Make func(gateway.Keys, gateway.Guard) (*gateway.Gateway, http.Handler)

// House is a gateway on loopback.
type House struct {
	*tokentest.Env
	*gateway.Gateway
	URL  string
	Stop context.CancelFunc // of Run
}

// Start starts a program's gateway on a guard in memory.
func Start(t testing.TB, program Make) *House {
	t.Helper()
	env := tokentest.New(t)
	return StartOn(t, program, env, env.Guard)
}

// StartOn starts it on another guard. env mints the tokens.
func StartOn(t testing.TB, program Make, env *tokentest.Env, guard gateway.Guard) *House {
	t.Helper()
	h := &House{Env: env}
	h.Sealer.Room = func(string) bool { return true }
	keys, err := keyring.NewInMemory(h.Ring)
	require.NoError(t, err)
	var handler http.Handler
	h.Gateway, handler = program(keys, guard)
	server := httptest.NewServer(handler)
	h.URL = server.URL
	var ctx context.Context
	ctx, h.Stop = context.WithCancel(context.Background())
	ran := make(chan error)
	go func() { ran <- h.Run(ctx) }()
	t.Cleanup(func() {
		h.Stop()
		<-ran
		server.CloseClientConnections()
		server.Close()
	})
	require.Eventually(t, func() bool { return h.Healthy(t) == http.StatusOK }, patience, time.Millisecond)
	return h
}

// Healthy returns the status of the health check.
func (h *House) Healthy(t testing.TB) int {
	t.Helper()
	resp, err := http.Get(h.URL + "/health")
	require.NoError(t, err)
	resp.Body.Close()
	return resp.StatusCode
}

// MintFor mints a user's token for Room.
func (h *House) MintFor(user string, changes ...func(*claims.Claims)) token.ChatToken {
	return h.Mint(append([]func(*claims.Claims){func(c *claims.Claims) {
		c.RoomIdentifier, c.UserID = Room, user
	}}, changes...)...)
}

// Almost mints a token whose session ends in some ten seconds.
func (h *House) Almost(user string) token.ChatToken {
	sealer := h.Sealer
	sealer.Now = func() time.Time { return h.Now().Add(-48 * time.Second) }
	minted, err := sealer.Create(claims.Claims{RoomIdentifier: Room, UserID: user, Capabilities: claims.SendMessage, SessionMinutes: 1})
	if err != nil {
		panic(err)
	}
	return minted
}

// RequireUnspent requires that a token isn't spent.
func (h *House) RequireUnspent(t testing.TB, minted token.ChatToken) {
	t.Helper()
	require.NoError(t, h.Opener.Open(t.Context(), new(token.Session), minted.Token), "the token was spent")
}
