package replay_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/replay"
	"github.com/seed17cb2b26/chattoken/token"
	"github.com/seed17cb2b26/chattoken/token/tokentest"
)

// TestOpener uses the guard and the revocations in an Opener.
func TestOpener(t *testing.T) {
	ring, err := keyring.New(epoch, keyring.Config{})
	require.NoError(t, err)
	now := epoch
	clock := func() time.Time { return now }
	guard, err := replay.New(replay.Config{Rate: 1, Limits: ring.Limits(), Now: clock})
	require.NoError(t, err)
	sealer := token.Sealer{Ring: ring, Now: clock}
	opener := token.Opener{Ring: ring, Guard: guard, Now: clock}
	mint := func(user string) string {
		minted, err := sealer.Create(claims.Claims{
			RoomIdentifier: tokentest.Room,
			UserID:         user,
		})
		require.NoError(t, err)
		return minted.Token
	}
	var s token.Session
	open := func(text string) error { return opener.Open(ctx, &s, text) }

	early := mint("alice")
	assert.Equal(t, replay.ErrBeforeStart, open(early))
	assert.ErrorIs(t, open(early), token.ErrUnavailable)

	now = guard.ReadyAt()
	text := mint("alice")
	assert.NoError(t, open(text))
	assert.NoError(t, guard.Revoked(s.Summary()))
	alice := s.Clone()
	assert.Equal(t, token.ErrSpent, open(text))

	unused := mint("alice")
	require.NoError(t, guard.Revoke(ctx, token.Target{User: "alice"}, now))
	assert.Error(t, guard.Revoked(alice.Summary()), "live session")
	assert.Equal(t, token.ErrRevoked, open(unused))
	assert.Equal(t, token.FetchNewTokenLater, token.Action(token.ErrRevoked))
	assert.NoError(t, open(mint("bob")))
	assert.EqualValues(t, 2, guard.Stats(now).Fresh, "a revoked token was spent")

	now = now.Add(ring.Limits().ClockSkew + time.Second)
	assert.NoError(t, open(mint("alice")), "issued after the revocation")

	for range 2000 {
		if err = open(mint("carol")); err != nil {
			break
		}
	}
	assert.Equal(t, replay.ErrFull, err)
	assert.Equal(t, token.TryLater, token.Action(err))
}

// revokedOnly is a guard that spends nothing.
type revokedOnly struct{ *replay.Revocations }

func (revokedOnly) Spend(context.Context, time.Time, token.Summary) (bool, error) { return false, nil }

// TestRevocationByTheRingsSkew has an issuer whose clock is ahead by the ring's
// skew, which is not the default. The revocations were not told.
func TestRevocationByTheRingsSkew(t *testing.T) {
	for _, skew := range []time.Duration{time.Second, 5 * time.Second, time.Minute} {
		t.Run(skew.String(), func(t *testing.T) {
			ring, err := keyring.New(epoch, keyring.Config{Policy: keyring.Policy{MaxTTL: 2 * time.Minute, ClockSkew: skew}})
			require.NoError(t, err)
			ahead, now := epoch.Add(skew), epoch
			sealer := token.Sealer{Ring: ring, Now: func() time.Time { return ahead }}
			var revoked replay.Revocations
			opener := token.Opener{Ring: ring, Guard: revokedOnly{&revoked}, Now: func() time.Time { return now }}
			mint := func() string {
				minted, err := sealer.Create(claims.Claims{
					RoomIdentifier: tokentest.Room,
					UserID:         "alice",
				})
				require.NoError(t, err)
				return minted.Token
			}
			unused := mint()
			var live, s token.Session
			require.NoError(t, opener.OpenWithoutSpending(ctx, &live, mint()))
			require.Equal(t, skew, live.Summary().ClockSkew)

			revoked.Revoke(now, token.Target{User: "alice"}, now)
			assert.Equal(t, token.ErrRevoked, opener.OpenWithoutSpending(ctx, &s, unused))
			assert.Error(t, revoked.Revoked(live.Summary()), "a live session")
			assert.Error(t, revoked.Revoked(live.Clone().Summary()), "a copy of it")

			ahead, now = ahead.Add(time.Second), now.Add(time.Second)
			assert.NoError(t, opener.OpenWithoutSpending(ctx, &s, mint()), "issued after the revocation")
		})
	}
}
