package replay_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/replay"
	"github.com/seed17cb2b26/chattoken/token"
	"github.com/seed17cb2b26/chattoken/token/tokentest"
)

// TestRestartWithAnotherSkew makes two guards, one after the other, and an
// issuer whose clock is apart from theirs by up to the ring's skew. Whatever
// skew the guards were told, the second does not accept what the first
// accepted.
func TestRestartWithAnotherSkew(t *testing.T) {
	const tick = time.Second / ticksPerSecond
	seconds := []int{1, 2, 4}
	tries, replays := 0, 0
	for _, ring := range seconds {
		for _, first := range seconds {
			for _, second := range seconds {
				for start := range ticksPerSecond {
					for ahead := -ring; ahead <= ring; ahead++ {
						at := epoch.Add(time.Duration(start) * tick)
						tok := tokenAt(uint64(tries), at.Add(time.Duration(ahead)*time.Second), 5*time.Second)
						tok.ClockSkew = time.Duration(ring) * time.Second
						one, err := newAt(at.Add(-time.Hour), replay.Config{Rate: 1, Limits: keyring.Limits{ClockSkew: time.Duration(first) * time.Second}})
						require.NoError(t, err)
						if fresh, _ := one.Spend(ctx, at, tok); !fresh {
							// It was told less than
							// the ring's.
							continue
						}
						tries++
						two, err := newAt(at, replay.Config{Rate: 1, Limits: keyring.Limits{ClockSkew: time.Duration(second) * time.Second}})
						require.NoError(t, err)
						for now := at; now.Before(tok.Expiration); now = now.Add(tick) {
							if fresh, _ := two.Spend(ctx, now, tok); fresh {
								replays++
							}
						}
					}
				}
			}
		}
	}
	require.Greater(t, tries, 300)
	require.Zero(t, replays, "of %d tokens, accepted again", tries)
}

// TestRestartForgetsNoRevocation revokes a user before a token is used, and
// restarts. The issuer's clock is ahead by the ring's skew, which the guards
// were not told. Revocations end with the process, because the next guard
// refuses the token.
func TestRestartForgetsNoRevocation(t *testing.T) {
	const skew = time.Minute
	ring, err := keyring.New(epoch, keyring.Config{Policy: keyring.Policy{MaxTTL: 2 * time.Minute, ClockSkew: skew}})
	require.NoError(t, err)
	for ahead := time.Duration(0); ahead <= skew; ahead += 5 * time.Second {
		sealer := token.Sealer{Ring: ring, Now: func() time.Time { return epoch.Add(ahead) }}
		minted, err := sealer.Create(claims.Claims{RoomIdentifier: tokentest.Room, UserID: "alice"})
		require.NoError(t, err)
		guard, err := newAt(epoch.Add(time.Second), replay.Config{Rate: 1})
		require.NoError(t, err)
		for now := epoch.Add(time.Second); now.Before(minted.TokenExpiration); now = now.Add(time.Second) {
			opener := token.Opener{Ring: ring, Guard: guard, Now: func() time.Time { return now }}
			var s token.Session
			require.Error(t, opener.Open(ctx, &s, minted.Token), "a clock ahead by %v", ahead)
		}
	}
}
