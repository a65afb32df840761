package token_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/internal/testenv"
	"github.com/seed17cb2b26/chattoken/token"
	"github.com/seed17cb2b26/chattoken/token/tokentest"
)

// A caller gives the Session away while Open still waits for the guard, and
// another Open takes it. The Session must not mix the two tokens, and Open must
// not accept one whose Session it has lost.
func TestOpenSessionUsedMeanwhile(t *testing.T) {
	other := claims.Claims{RoomIdentifier: tokentest.Room, UserID: "someone!"}
	tests := []struct {
		name      string
		meanwhile func(t *testing.T, f *fixture, s *token.Session)
		want      error
	}{
		{"opened", func(t *testing.T, f *fixture, s *token.Session) {
			require.NoError(t, f.opener.OpenWithoutSpending(t.Context(), s, f.mint(t, other)))
		}, token.ErrUnavailable},
		{"opened with the same token", func(t *testing.T, f *fixture, s *token.Session) {
			require.NoError(t, f.opener.OpenWithoutSpending(t.Context(), s, f.mint(t, tokentest.Claims())))
		}, token.ErrUnavailable},
		{"opened and reset", func(t *testing.T, f *fixture, s *token.Session) {
			require.NoError(t, f.opener.OpenWithoutSpending(t.Context(), s, f.mint(t, other)))
			s.Reset()
		}, nil},
		{"reset", func(_ *testing.T, _ *fixture, s *token.Session) { s.Reset() }, nil},
		{"refused", func(t *testing.T, f *fixture, s *token.Session) {
			text := []byte(f.mint(t, testenv.LongestClaims()))
			text[len(text)/2] ^= 1
			require.ErrorIs(t, f.opener.Open(t.Context(), s, string(text)), token.ErrInvalid)
		}, nil},
	}
	for _, test := range tests {
		for name, s := range map[string]*token.Session{"new": {}, "used": nil} {
			t.Run(test.name+"/"+name, func(t *testing.T) {
				f := newFixture(t)
				if s == nil {
					s = f.usedSession(t)
				}
				opener := token.Opener{Ring: f.ring, Now: f.opener.Now}
				opener.Guard = guardFunc(func(_ context.Context, _ time.Time, summary token.Summary) (bool, error) {
					test.meanwhile(t, f, s)
					assert.Equal(t, "11231234", string(summary.UserID), "what the guard sees")
					return true, nil
				})
				err := opener.Open(t.Context(), s, f.mint(t, tokentest.Claims()))
				if test.want == nil {
					require.NoError(t, err)
					assert.Equal(t, tokentest.Claims(), s.Claims())
				} else {
					require.ErrorIs(t, err, test.want)
					requireZero(t, s)
				}
				require.NoError(t, f.opener.Open(t.Context(), s, f.mint(t, testenv.LongestClaims())), "again")
				assert.Equal(t, testenv.LongestClaims(), s.Claims())
			})
		}
	}
}
