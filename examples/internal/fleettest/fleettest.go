// Package fleettest runs two gateways of an example on one guard server.
package fleettest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/examples/internal/gatewaytest"
	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/replay/valkey"
	"github.com/seed17cb2b26/chattoken/replay/valkey/valkeytest"
	"github.com/seed17cb2b26/chattoken/token"
	"github.com/seed17cb2b26/chattoken/token/tokentest"
)

// Pair is two gateways and the server.
type Pair struct {
	One, Two *gatewaytest.House
	Server   *valkeytest.Server
}

// Start starts a pair. Each opens the other's tokens.
func Start(t *testing.T, program gatewaytest.Make) Pair {
	t.Helper()
	server, env := valkeytest.Start(t), tokentest.New(t)
	ring, err := keyring.New(time.Now(), keyring.Config{Policy: keyring.Policy{ClockSkew: time.Second}}) // ready sooner
	require.NoError(t, err)
	env.Ring, env.Sealer.Ring, env.Opener.Ring = ring, ring, ring
	house := func() *gatewaytest.House {
		guard, err := valkey.New(t.Context(), valkey.Config{Addresses: []string{server.Address}, Limits: env.Ring.Limits()})
		require.NoError(t, err)
		t.Cleanup(guard.Close)
		return gatewaytest.StartOn(t, program, env, guard)
	}
	return Pair{house(), house(), server}
}

// Test kills the server and starts it again.
func Test(t *testing.T, p gatewaytest.Program) {
	pair := Start(t, p.Make)
	one, two := pair.One, pair.Two
	alice, bob, carol := one.MintFor("alice"), one.MintFor("bob"), one.MintFor("carol")
	a, b, c := p.Enter(t, one, alice), p.Enter(t, one, bob), p.Enter(t, two, carol)
	p.RequireRefused(t, two.ChatURL(gatewaytest.Room), alice.Token, 401, 4401, "spent")
	require.NoError(t, two.Revoke(t.Context(), token.Target{User: "bob"}, "spam"))
	code, reason := b.End(t)
	require.Equal(t, 4401, code)
	require.Equal(t, "revoked", reason, "the other gateway's reason stays there")

	pair.Server.Kill()
	p.RequireRefused(t, one.ChatURL(gatewaytest.Room), one.MintFor("dave").Token, 503, 1013, "unavailable")
	require.Equal(t, "hello", a.Say(t, "hello"), "who is in stays in")
	require.NoError(t, one.Ready(one.Now()), "a server that is down takes no gateway away")
	carolHere := one.MintFor("carol")
	require.ErrorIs(t, one.Revoke(t.Context(), token.Target{User: "carol"}, "spam"), token.ErrUnavailable)
	require.Equal(t, 1, one.Stats().Unsent)
	require.Equal(t, "hello", c.Say(t, "hello"), "two does not know yet")

	pair.Server.Restart()
	code, _ = c.End(t)
	require.Equal(t, 4401, code, "the gateway has repeated it")
	p.RequireRefused(t, two.ChatURL(gatewaytest.Room), carolHere.Token, 401, 4401, "revoked")
	for _, house := range []*gatewaytest.House{one, two} {
		require.Eventually(t, func() bool {
			entered := house.Stats().Entered
			p.Dial(t, house.ChatURL(gatewaytest.Room), nil, one.MintFor("dave").Token)
			return house.Stats().Entered > entered
		}, time.Minute, 100*time.Millisecond)
	}
	require.Zero(t, one.Stats().Unsent)
	require.Equal(t, "hello", a.Say(t, "hello"))
}
