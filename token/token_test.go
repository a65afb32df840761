package token_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/internal/base64url"
	"github.com/seed17cb2b26/chattoken/internal/box"
	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/token"
	"github.com/seed17cb2b26/chattoken/token/tokentest"
)

// start is when the tests begin: half past a second, so that rounding down
// shows.
var start = time.Date(2022, 3, 16, 4, 43, 9, 500_000_000, time.UTC)

// fixture is an application and a gateway that share a ring and a clock.
type fixture struct {
	now    time.Time
	ring   *keyring.Ring
	guard  *memory
	sealer token.Sealer
	opener token.Opener
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	f := &fixture{now: start, guard: &memory{}}
	f.ring = newRing(t, keyring.Policy{MaxTTL: token.MaxTTL})
	clock := func() time.Time { return f.now }
	f.sealer = token.Sealer{Ring: f.ring, Now: clock}
	f.opener = token.Opener{Ring: f.ring, Guard: f.guard, Now: clock}
	return f
}

func newRing(t testing.TB, p keyring.Policy) *keyring.Ring {
	t.Helper()
	ring, err := keyring.New(start, keyring.Config{Policy: p})
	require.NoError(t, err)
	return ring
}

func (f *fixture) mint(t testing.TB, c claims.Claims) string {
	t.Helper()
	minted, err := f.sealer.Create(c)
	require.NoError(t, err)
	return minted.Token
}

// sealPayload seals any payload.
func (f *fixture) sealPayload(t testing.TB, payload []byte) string {
	t.Helper()
	b, err := f.ring.SealBox(box.Inside(), nil, payload, f.now)
	require.NoError(t, err)
	return spell(b)
}

// spell writes a box as a token; unspell reads one back.
func spell(b []byte) string {
	return string(base64url.Append([]byte(token.Prefix), b[len(token.Prefix):]))
}

func unspell(t testing.TB, text string) []byte {
	t.Helper()
	b := make([]byte, len(text))
	copy(b, token.Prefix)
	n, ok := base64url.Decode(b[len(token.Prefix):], text[len(token.Prefix):])
	require.True(t, ok)
	return b[:len(token.Prefix)+n]
}

// requireRefused opens text into a used and a fresh Session. After the refusal
// both must be zero, and the guard untouched.
func (f *fixture) requireRefused(t testing.TB, want error, text string) {
	t.Helper()
	before := f.guard.calls
	used := f.usedSession(t)
	for _, s := range []*token.Session{used, new(token.Session)} {
		err := f.opener.Open(t.Context(), s, text)
		require.ErrorIs(t, err, want, "%.100q", text)
		requireZero(t, s)
	}
	require.Equal(t, before, f.guard.calls, "the guard was asked")
}

// usedSession returns a Session that has claims.
func (f *fixture) usedSession(t testing.TB) *token.Session {
	t.Helper()
	s := new(token.Session)
	opener := token.Opener{Ring: f.ring, Now: f.opener.Now}
	require.NoError(t, opener.OpenWithoutSpending(t.Context(), s, f.mint(t, tokentest.Claims())))
	return s
}

func requireZero(t testing.TB, s *token.Session) {
	t.Helper()
	require.Zero(t, s.Claims())
	require.Zero(t, s.Summary())
	require.Zero(t, s.TokenID())
	require.Empty(t, s.RoomIdentifier())
	require.Empty(t, s.UserID())
	require.Zero(t, s.Capabilities())
	require.Zero(t, s.IssuedAt())
	require.Zero(t, s.SessionExpiration())
	for range s.Attributes() {
		t.Fatal("a zero Session has attributes")
	}
	_, ok := s.Attribute("displayName")
	require.False(t, ok)
	for _, now := range []time.Time{{}, time.Unix(0, 0), time.Unix(-1, 0), start} {
		require.Error(t, s.Authorize(now, claims.SendMessage))
		require.Error(t, s.Authorize(now, 0))
		require.True(t, s.Expired(now))
	}
}

// memory is a guard that never forgets, for one goroutine.
type memory struct {
	calls   int
	revoked func(token.Summary) error // nil revokes nothing
	spent   map[token.ID]bool
	last    token.Summary
	now     time.Time
}

func (m *memory) Spend(_ context.Context, now time.Time, t token.Summary) (bool, error) {
	m.calls++
	m.last, m.now = t, now
	if m.spent[t.TokenID] {
		return false, nil
	}
	if m.spent == nil {
		m.spent = map[token.ID]bool{}
	}
	m.spent[t.TokenID] = true
	return true, nil
}

func (m *memory) Revoked(s token.Summary) error {
	if m.revoked == nil {
		return nil
	}
	return m.revoked(s)
}
