package tokentest_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/token"
	"github.com/seed17cb2b26/chattoken/token/tokentest"
)

// requireKinds opens one token of each kind.
func requireKinds(t *testing.T, env *tokentest.Env) {
	t.Helper()
	var s token.Session
	require.NoError(t, env.Opener.Validate())
	for text, want := range map[string]error{
		env.Mint().Token:    nil,
		env.Expired():       token.ErrTokenExpired,
		env.FromTheFuture(): token.ErrNotYetValid,
		env.Spent():         token.ErrSpent,
		env.Revoked():       token.ErrRevoked,
		env.UnknownKey():    token.ErrUnknownKey,
		env.Forged():        token.ErrForged,
	} {
		require.Equal(t, want, env.Opener.Open(t.Context(), &s, text))
	}
}

func TestKinds(t *testing.T) {
	env := tokentest.New(t)
	requireKinds(t, env)
	env.Advance(24 * time.Hour)
	requireKinds(t, env)
}

func TestSynctest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := tokentest.New(t)
		minted := env.Mint(func(c *claims.Claims) { c.UserID = "someone" })
		time.Sleep(59 * time.Second)
		requireKinds(t, env)
		time.Sleep(time.Second)
		require.Equal(t, minted.TokenExpiration, env.Now().UTC())
		require.Equal(t, token.ErrTokenExpired, env.Opener.Open(t.Context(), new(token.Session), minted.Token))
	})
}
