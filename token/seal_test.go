package token_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/internal/testenv"
	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/token"
	"github.com/seed17cb2b26/chattoken/token/tokentest"
)

func TestCreate(t *testing.T) {
	f := newFixture(t)
	minted, err := f.sealer.Create(tokentest.Claims())
	require.NoError(t, err)
	floor := start.Truncate(time.Second)
	assert.Equal(t, floor.Add(60*time.Second), minted.TokenExpiration)
	assert.Equal(t, floor.Add(30*time.Minute), minted.SessionExpiration)
	assert.LessOrEqual(t, len(minted.Token), 200)
	assert.True(t, strings.HasPrefix(minted.Token, "ct1_"))

	var s token.Session
	require.NoError(t, f.opener.Open(t.Context(), &s, minted.Token))
	assert.Equal(t, tokentest.Claims(), s.Claims())
	assert.Equal(t, minted.SessionExpiration, s.SessionExpiration())
	assert.Equal(t, minted.ID, s.TokenID())
	assert.NotZero(t, minted.ID)
	assert.Equal(t, floor, s.IssuedAt())

	c := tokentest.Claims()
	c.SessionMinutes = 0
	minted, err = f.sealer.Create(c)
	require.NoError(t, err)
	assert.Equal(t, floor.Add(time.Hour), minted.SessionExpiration, "an hour where none is stated")
}

func TestChatTokenJSON(t *testing.T) {
	f := newFixture(t)
	minted, err := f.sealer.Create(tokentest.Claims())
	require.NoError(t, err)
	got, err := json.Marshal(minted)
	require.NoError(t, err)
	assert.JSONEq(t, `{"token":"`+minted.Token+`","tokenExpirationTime":"2022-03-16T04:44:09Z","sessionExpirationTime":"2022-03-16T05:13:09Z"}`, string(got))
}

func TestChatTokenRedaction(t *testing.T) {
	f := newFixture(t)
	minted, err := f.sealer.Create(tokentest.Claims())
	require.NoError(t, err)
	var out bytes.Buffer
	slog.New(slog.NewTextHandler(&out, nil)).Info("minted", "token", minted, "pointer", &minted)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("minted", "token", minted)
	for _, verb := range strings.Split("v +v #v s q x d", " ") {
		fmt.Fprintf(&out, "%"+verb, minted)
		fmt.Fprintf(&out, "%"+verb, []any{&minted, struct{ T token.ChatToken }{minted}})
	}
	assert.NotContains(t, out.String(), minted.Token[4:])
	assert.NotContains(t, out.String(), fmt.Sprintf("%x", minted.Token[4:]))
	var within bytes.Buffer
	slog.New(slog.NewTextHandler(&within, nil)).Info("minted", "tokens", []token.ChatToken{minted})
	assert.NotContains(t, within.String(), minted.Token[4:])
	slog.New(slog.NewJSONHandler(&within, nil)).Info("minted", "tokens", []token.ChatToken{minted})
	assert.Contains(t, within.String(), minted.Token, "the documentation warns of it")
	assert.Contains(t, out.String(), "token.ChatToken("+minted.ID.String()+" token expires 2022-03-16T04:44:09Z session expires 2022-03-16T05:13:09Z)")
}

func TestLengths(t *testing.T) {
	f := newFixture(t)
	f.sealer.TTL = token.MaxTTL
	f.sealer.Room = func(string) bool { return true }
	f.now = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	assert.Len(t, f.mint(t, testenv.LongestClaims()), token.MaxLen)
	assert.LessOrEqual(t, token.MaxLen, 3900)

	f.now = time.Unix(23, 0) // the last second that takes one byte
	f.sealer.TTL = token.MinTTL
	assert.Len(t, f.mint(t, claims.Claims{RoomIdentifier: "r", UserID: "u", SessionMinutes: 1}), token.MinLen)
}

func TestSealAppends(t *testing.T) {
	f := newFixture(t)
	c := tokentest.Claims()
	for _, dst := range [][]byte{nil, {}, []byte("prefix"), append(make([]byte, 0, 7), "prefix"...), append(make([]byte, 0, 4096), "prefix"...)} {
		backing := dst[:cap(dst)]
		for i := len(dst); i < len(backing); i++ {
			backing[i] = 0xA5
		}
		out, _, err := f.sealer.Seal(dst, &c)
		require.NoError(t, err)
		require.True(t, bytes.HasPrefix(out, dst))
		var s token.Session
		require.NoError(t, f.opener.Open(t.Context(), &s, string(out[len(dst):])))
		for i := len(out); i < len(backing); i++ {
			require.Equal(t, byte(0xA5), backing[i], "spare capacity was written")
		}
	}
	assert.Equal(t, tokentest.Claims(), c, "the claims are not changed")
}

func TestSealRefused(t *testing.T) {
	fine := tokentest.Claims()
	bad := tokentest.Claims()
	bad.UserID = ""
	tests := []struct {
		name   string
		change func(*fixture)
		claims claims.Claims
		says   string
	}{
		{"claims", func(*fixture) {}, bad, "userId"},
		{"no ring", func(f *fixture) { f.sealer.Ring = nil }, fine, "Ring is nil"},
		{"zero ring", func(f *fixture) { f.sealer.Ring = new(keyring.Ring) }, fine, "zero Ring"},
		{"TTL too short", func(f *fixture) { f.sealer.TTL = token.MinTTL - time.Second }, fine, "not whole seconds"},
		{"TTL too long", func(f *fixture) { f.sealer.TTL = token.MaxTTL + time.Second }, fine, "not whole seconds"},
		{"TTL not whole seconds", func(f *fixture) { f.sealer.TTL = token.MinTTL + 1 }, fine, "not whole seconds"},
		{"TTL negative", func(f *fixture) { f.sealer.TTL = -time.Minute }, fine, "not whole seconds"},
		{"TTL longer than the ring's", func(f *fixture) {
			f.sealer.Ring = newRing(t, keyring.Policy{MaxTTL: 30 * time.Second})
			f.sealer.TTL = 31 * time.Second
		}, fine, "above MaxTTL of the ring"},
		{"before 1970", func(f *fixture) { f.now = time.Unix(-1, 0) }, fine, "the clock is"},
		{"no time", func(f *fixture) { f.now = time.Time{} }, fine, "the clock is"},
		{"after 9999", func(f *fixture) { f.now = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) }, fine, "the clock is"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := newFixture(t)
			test.change(f)
			dst := []byte("dst")
			out, _, err := f.sealer.Seal(dst, &test.claims)
			require.ErrorContains(t, err, test.says)
			assert.Equal(t, dst, out)
			minted, err := f.sealer.Create(test.claims)
			require.ErrorContains(t, err, test.says)
			assert.Zero(t, minted)
		})
	}
}

// Room panics, and the server recovers: the next token, another user's, has
// none of the claims.
func TestSealRoomPanics(t *testing.T) {
	f := newFixture(t)
	next := tokentest.Claims()
	next.Attributes = nil
	for range 100 {
		f.sealer.Room = func(string) bool { panic("room") }
		assert.Panics(t, func() { _, _ = f.sealer.Create(tokentest.Claims()) })
		f.sealer.Room = nil
		var s token.Session
		require.NoError(t, f.opener.Open(t.Context(), &s, f.mint(t, next)))
		require.Equal(t, next, s.Claims())
	}
}

func TestTTL(t *testing.T) {
	floor := start.Truncate(time.Second)
	tests := []struct {
		name      string
		ttl, ring time.Duration
		minutes   int
		want      time.Duration
	}{
		{"default", 0, token.MaxTTL, 0, time.Minute},
		{"default under a shorter ring", 0, 20 * time.Second, 0, 20 * time.Second},
		{"shortest", token.MinTTL, token.MaxTTL, 0, token.MinTTL},
		{"longest", token.MaxTTL, token.MaxTTL, 0, token.MaxTTL},
		{"the ring's", 30 * time.Second, 30 * time.Second, 0, 30 * time.Second},
		{"shortened to the session", token.MaxTTL, token.MaxTTL, 9, 9 * time.Minute},
		{"as long as the session", token.MaxTTL, token.MaxTTL, 10, token.MaxTTL},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := newFixture(t)
			f.ring = newRing(t, keyring.Policy{MaxTTL: test.ring})
			f.sealer.Ring, f.opener.Ring = f.ring, f.ring
			f.sealer.TTL = test.ttl
			c := tokentest.Claims()
			c.SessionMinutes = test.minutes
			minted, err := f.sealer.Create(c)
			require.NoError(t, err)
			assert.Equal(t, floor.Add(test.want), minted.TokenExpiration)

			var s token.Session
			f.now = minted.TokenExpiration.Add(-1)
			require.NoError(t, f.opener.OpenWithoutSpending(t.Context(), &s, minted.Token))
			assert.Equal(t, minted.TokenExpiration, s.Summary().Expiration)
			f.now = minted.TokenExpiration
			assert.Equal(t, token.ErrTokenExpired, f.opener.OpenWithoutSpending(t.Context(), &s, minted.Token))
		})
	}
}

// If Now is nil, Sealer and Opener use the system's clock.
func TestSystemClock(t *testing.T) {
	ring, err := keyring.New(time.Now(), keyring.Config{})
	require.NoError(t, err)
	sealer := token.Sealer{Ring: ring}
	minted, err := sealer.Create(tokentest.Claims())
	require.NoError(t, err)
	opener := token.Opener{Ring: ring, Guard: &memory{}}
	var s token.Session
	require.NoError(t, opener.Open(t.Context(), &s, minted.Token))
	require.NoError(t, s.Authorize(time.Now(), claims.SendMessage))
}

// If the clock were read twice, the token could be valid at one second and its
// key at the other only.
func TestClockIsReadOnce(t *testing.T) {
	f := newFixture(t)
	text := f.mint(t, tokentest.Claims())
	reads := 0
	clock := func() time.Time { reads++; return start }
	sealer := token.Sealer{Ring: f.ring, Now: clock}
	opener := token.Opener{Ring: f.ring, Guard: f.guard, Now: clock}
	var s token.Session
	for name, call := range map[string]func() error{
		"Create":              func() error { _, err := sealer.Create(tokentest.Claims()); return err },
		"Seal":                func() error { c := tokentest.Claims(); _, _, err := sealer.Seal(nil, &c); return err },
		"Open":                func() error { return opener.Open(t.Context(), &s, text) },
		"OpenWithoutSpending": func() error { return opener.OpenWithoutSpending(t.Context(), &s, text) },
	} {
		reads = 0
		require.NoError(t, call(), name)
		assert.Equal(t, 1, reads, name)
	}
}

// Two tokens with the same claims differ.
func TestSealIsRandomized(t *testing.T) {
	f := newFixture(t)
	seen := map[string]bool{}
	for range 1000 {
		seen[f.mint(t, tokentest.Claims())] = true
	}
	assert.Len(t, seen, 1000)
}

// A token of the default TTL is still valid if the clocks differ by as much as
// the policy allows.
func TestDefaultTTLSurvivesTheSkew(t *testing.T) {
	for _, skew := range []time.Duration{time.Second, 5 * time.Second, 55 * time.Second, time.Minute} {
		ring := newRing(t, keyring.Policy{MaxTTL: 2 * time.Minute, ClockSkew: skew, Lead: time.Hour})
		sealer := token.Sealer{Ring: ring, Now: func() time.Time { return start }}
		minted, err := sealer.Create(tokentest.Claims())
		require.NoError(t, err)
		opener := token.Opener{Ring: ring, Guard: &memory{}, Now: func() time.Time { return start.Add(skew) }}
		require.NoError(t, opener.Open(t.Context(), new(token.Session), minted.Token), "a clock ahead by %v", skew)
		want := max(token.DefaultTTL, skew+token.MinTTL)
		require.Equal(t, want, minted.TokenExpiration.Sub(start.Truncate(time.Second)))
	}
}

// Create names the wrong fields of a request even if the clock or TTL is wrong.
func TestCreateNamesFieldsFirst(t *testing.T) {
	f := newFixture(t)
	for name, s := range map[string]token.Sealer{
		"clock": {Ring: f.sealer.Ring, Now: fixedClock(-1)},
		"TTL":   {Ring: f.sealer.Ring, TTL: 24 * time.Hour},
		"ring":  {},
	} {
		var invalid *claims.ValidationError
		_, err := s.Create(claims.Claims{})
		require.ErrorAs(t, err, &invalid, name)
		require.Len(t, invalid.Fields, 2, name)
		_, err = s.Create(tokentest.Claims())
		require.Error(t, err, name)
		require.False(t, errors.As(err, &invalid), name)
	}
}
