package main

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/examples/internal/fleettest"
	"github.com/seed17cb2b26/chattoken/examples/internal/gatewaytest"
	"github.com/seed17cb2b26/chattoken/token"
)

func TestFleet(t *testing.T) {
	pair := fleettest.Start(t, newGateway)
	one, two := pair.One, pair.Two
	alice, bob := one.MintFor("alice"), one.MintFor("bob")
	a, b := enter(t, one, alice), enter(t, one, bob)
	assert.Equal(t, http.StatusNoContent, listen(t, two, gatewaytest.Room, alice.Token, nil).StatusCode)
	require.NoError(t, two.Revoke(t.Context(), token.Target{User: "bob"}, ""))
	requireEnd(t, b, `{"code":4401,"reason":"revoked"}`)

	pair.Server.Kill()
	resp := listen(t, one, gatewaytest.Room, one.MintFor("carol").Token, nil)
	assert.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
	assert.Equal(t, "5", resp.Header.Get("Retry-After"))
	require.Error(t, one.Revoke(t.Context(), token.Target{User: "alice"}, "spam"))
	requireEnd(t, a, `{"code":4401,"reason":"spam"}`)

	pair.Server.Restart()
	require.Eventually(t, func() bool {
		return listen(t, two, gatewaytest.Room, one.MintFor("carol").Token, nil).StatusCode == http.StatusOK
	}, time.Minute, 100*time.Millisecond)
}
