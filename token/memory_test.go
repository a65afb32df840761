package token_test

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/internal/testenv"
	"github.com/seed17cb2b26/chattoken/token"
	"github.com/seed17cb2b26/chattoken/token/tokentest"
)

// leftovers has a way to fail for each check after decryption. The function
// sets the clock and opener as the case needs, and keeps the Summary of an
// Admit or guard in *kept.
var leftovers = []struct {
	name    string
	prepare func(f *fixture, kept *token.Summary)
	want    error
}{
	{"expired", func(f *fixture, _ *token.Summary) { f.now = start.Add(time.Minute) }, token.ErrTokenExpired},
	{"future", func(f *fixture, _ *token.Summary) { f.now = start.Add(-time.Minute) }, token.ErrNotYetValid},
	{"admission rule", func(f *fixture, kept *token.Summary) {
		f.opener.Admit = func(_ context.Context, _ time.Time, t token.Summary) error {
			*kept = t
			return errBanned
		}
	}, errBanned},
	{"revoked", func(f *fixture, kept *token.Summary) {
		f.guard.revoked = func(t token.Summary) error {
			*kept = t
			return token.ErrRevoked
		}
	}, token.ErrRevoked},
	{"spent", func(f *fixture, kept *token.Summary) { f.opener.Guard = keeping(kept, nil) }, token.ErrSpent},
	{"guard failed", func(f *fixture, kept *token.Summary) { f.opener.Guard = keeping(kept, errBanned) }, token.ErrUnavailable},
}

var errBanned = errors.New("banned")

// keeping is a guard that keeps each Summary and refuses every token.
func keeping(kept *token.Summary, err error) token.Guard {
	return guardFunc(func(_ context.Context, _ time.Time, t token.Summary) (bool, error) {
		*kept = t
		return false, err
	})
}

// After a refusal the claims are gone, and so are those of the token before,
// even if Admit or the guard kept the slices.
func TestRefusalClearsTheSession(t *testing.T) {
	for _, test := range leftovers {
		for name, held := range map[string]claims.Claims{"roomy": testenv.LongestClaims(), "too small": {RoomIdentifier: tokentest.Room, UserID: "u"}} {
			t.Run(test.name+"/"+name, func(t *testing.T) {
				f := newFixture(t)
				var s token.Session
				require.NoError(t, f.opener.OpenWithoutSpending(t.Context(), &s, f.mint(t, held)))
				before, kept := s.Summary(), token.Summary{}
				text := f.mint(t, tokentest.Claims())
				test.prepare(f, &kept)
				require.Equal(t, test.want, f.opener.Open(t.Context(), &s, text))
				requireZero(t, &s)
				for _, b := range [][]byte{before.RoomIdentifier, before.UserID, kept.RoomIdentifier, kept.UserID} {
					require.Equal(t, string(make([]byte, len(b))), string(b), "claims are left in memory")
				}
			})
		}
	}
}

// Pooled memory holds no claims, because the next token is somebody else's.
func TestPooledMemoryHoldsNoClaims(t *testing.T) {
	pooled, pooledText, restore := token.UseOneWorkspace()
	defer restore()
	for _, test := range leftovers {
		f := newFixture(t)
		text := f.mint(t, tokentest.Claims())
		require.Equal(t, make([]byte, len(text)), pooledText[:len(text)], "minting left the token")
		require.NotZero(t, pooled, "the token was not sealed here")
		require.False(t, bytes.Contains(pooled, []byte("11231234")), "sealing left the user ID")
		require.False(t, bytes.Contains(pooled, []byte("DemoUser")), "sealing left an attribute")
		var s token.Session
		require.NoError(t, f.opener.OpenWithoutSpending(t.Context(), &s, text))
		require.Equal(t, make([]byte, len(text)), pooled[:len(text)], "opening left the box")
		var fresh token.Session
		test.prepare(f, new(token.Summary))
		require.Equal(t, test.want, f.opener.Open(t.Context(), &fresh, text))
		require.Equal(t, make([]byte, len(text)), pooled[:len(text)], "refusing left the box: %s", test.name)
		_, err := f.sealer.Create(claims.Claims{RoomIdentifier: "lobby", UserID: "11231234"})
		require.Error(t, err)
		require.False(t, bytes.Contains(pooled, []byte("11231234")))
	}
}
