package token_test

import (
	"math"
	"reflect"
	"strings"
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

func TestID(t *testing.T) {
	id := token.ID{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}
	const text = "000102030405060708090a0b0c0d0e0f"
	assert.Equal(t, text, id.String())
	marshalled, err := id.MarshalText()
	require.NoError(t, err)
	assert.Equal(t, text, string(marshalled))
	var parsed token.ID
	require.NoError(t, parsed.UnmarshalText(marshalled))
	assert.Equal(t, id, parsed)
	for _, bad := range []string{"", text[1:], text + "0", "g" + text[1:], text[1:] + "\n"} {
		assert.Error(t, parsed.UnmarshalText([]byte(bad)), "%q", bad)
		assert.Equal(t, id, parsed, "left as it was")
	}
}

func TestTargetValidate(t *testing.T) {
	id := token.ID{1}
	for _, who := range []token.Target{
		{Room: "r"}, {User: "u"}, {Room: "r", User: "u"}, {Token: id}, {Everyone: true},
		{User: strings.Repeat("\U0010FFFF", claims.MaxUserIDRunes)},
		{Room: strings.Repeat("r", claims.MaxRoomIdentifierBytes)},
	} {
		assert.NoError(t, who.Validate(), "%+v", who)
	}
	for _, who := range []token.Target{
		{},
		{Room: "r", Token: id}, {User: "u", Token: id}, {Room: "r", User: "u", Token: id},
		{Room: "r", Everyone: true}, {User: "u", Everyone: true}, {Token: id, Everyone: true},
		{User: strings.Repeat("u", claims.MaxUserIDRunes+1)}, {User: "\xff"},
		{Room: strings.Repeat("r", claims.MaxRoomIdentifierBytes+1)}, {Room: "\xff", User: "u"},
	} {
		assert.Error(t, who.Validate(), "%+v", who)
	}
}

func TestIssuedBefore(t *testing.T) {
	issued := time.Unix(1000, 0)
	for _, test := range []struct {
		skew, after time.Duration // after: issued minus the moment
		want        bool
	}{
		{0, 5 * time.Second, true},
		{0, 6 * time.Second, false},
		{time.Second, time.Second, true},
		{time.Second, time.Second - 1, true},
		{time.Second, time.Second + 1, false}, // rounded down
		{time.Minute, time.Minute, true},
		{time.Minute, time.Minute + time.Second, false},
		{time.Second, -time.Hour, true},
	} {
		s := token.Summary{IssuedAt: issued, ClockSkew: test.skew}
		assert.Equal(t, test.want, s.IssuedBefore(issued.Add(-test.after)), "%+v", test)
	}
	for _, never := range []time.Time{{}, time.Unix(math.MinInt64, 0)} {
		assert.False(t, token.Summary{IssuedAt: time.Unix(0, 0)}.IssuedBefore(never))
	}
	assert.True(t, token.Summary{IssuedAt: issued}.IssuedBefore(time.Unix(math.MaxInt64, 0)))
}

// sealAny and openAny call the methods of a ring with the zero value of their
// first argument. A stranger can do that without naming its type.
func sealAny[C any](f func(C, []byte, []byte, time.Time) ([]byte, error), b []byte) ([]byte, error) {
	var caller C
	return f(caller, nil, b, start)
}

// Only package token seals and opens payloads.
func TestStrangersSealNothing(t *testing.T) {
	ring := newRing(t, keyring.Policy{})
	good := unspell(t, tokentest.New(t).Mint().Token)
	payload := []byte("\x87anything at all")

	for name, f := range map[string]func(caller any, b []byte) ([]byte, error){
		"Seal": func(_ any, b []byte) ([]byte, error) { return sealAny(ring.SealBox, b) },
		"Open": func(_ any, b []byte) ([]byte, error) { return sealAny(ring.OpenBox, b) },
	} {
		got, err := f(nil, payload)
		require.ErrorContains(t, err, "by package token only", name)
		require.Empty(t, got)
		got, err = f(nil, good)
		require.ErrorContains(t, err, "by package token only", name)
		require.Empty(t, got)
	}

	// By reflection a stranger can call every method of every public type.
	called := 0
	for _, v := range []reflect.Value{reflect.ValueOf(ring)} {
		for i := range v.NumMethod() {
			method := v.Type().Method(i)
			if method.Name != "SealBox" && method.Name != "OpenBox" {
				for j := range method.Type.NumIn() {
					require.NotContains(t, method.Type.In(j).PkgPath(), "/internal/", "%s takes it, too", method.Name)
				}
				continue
			}
			called++
			args := []reflect.Value{reflect.Zero(method.Type.In(1)), reflect.ValueOf([]byte(nil)), reflect.ValueOf(payload), reflect.ValueOf(start)}
			out := v.Method(i).Call(args)
			require.Zero(t, out[0].Len())
			require.False(t, out[1].IsNil(), method.Name)
			// The field that counts cannot be set.
			caller := reflect.New(method.Type.In(1)).Elem()
			for j := range caller.NumField() {
				require.False(t, caller.Field(j).CanSet())
			}
		}
	}
	require.Equal(t, 2, called)
}

// A Session whose token was not spent authorizes nothing.
func TestUnspentSessionAuthorizesNothing(t *testing.T) {
	env := tokentest.New(t)
	minted := env.Mint()
	looked, spent := new(token.Session), new(token.Session)
	require.NoError(t, env.Opener.OpenWithoutSpending(t.Context(), looked, minted.Token))
	assert.Equal(t, tokentest.Claims(), looked.Claims(), "it shows what the token says")
	assert.Equal(t, minted.SessionExpiration, looked.SessionExpiration())
	for _, s := range []*token.Session{looked, looked.Clone()} {
		err := s.Authorize(env.Now(), claims.SendMessage)
		assert.ErrorIs(t, err, token.ErrNotPermitted)
		assert.ErrorContains(t, err, "without spending")
		assert.Equal(t, "not-permitted", token.Reason(err))
		assert.Equal(t, token.GiveUp, token.Action(err))
		assert.True(t, s.Expired(env.Now()))
		assert.False(t, s.Spent())
	}

	require.NoError(t, env.Opener.Open(t.Context(), spent, minted.Token))
	for _, s := range []*token.Session{spent, spent.Clone()} {
		assert.NoError(t, s.Authorize(env.Now(), claims.SendMessage))
		assert.False(t, s.Expired(env.Now()))
		assert.True(t, s.Spent())
	}
	// Reuse a Session whose token was spent.
	require.NoError(t, env.Opener.OpenWithoutSpending(t.Context(), spent, env.Mint().Token))
	assert.False(t, spent.Spent())
	spent.Reset()
	assert.False(t, spent.Spent())
}

func TestOpenerValidate(t *testing.T) {
	minutes := func(ttl, skew time.Duration) keyring.Limits { return keyring.Limits{MaxTTL: ttl, ClockSkew: skew} }
	ring := newRing(t, keyring.Policy{MaxTTL: 5 * time.Minute, ClockSkew: 10 * time.Second})
	guard := func(l keyring.Limits) *replay.Guard {
		g, err := replay.New(replay.Config{Limits: l})
		require.NoError(t, err)
		return g
	}
	for name, test := range map[string]struct {
		opener token.Opener
		ok     bool
	}{
		"no ring":              {token.Opener{Guard: guard(ring.Limits())}, false},
		"zero ring":            {token.Opener{Ring: new(keyring.Ring), Guard: guard(ring.Limits())}, false},
		"no guard":             {token.Opener{Ring: ring}, false},
		"nil guard":            {token.Opener{Ring: ring, Guard: (*replay.Guard)(nil)}, false},
		"the ring's limits":    {token.Opener{Ring: ring, Guard: guard(ring.Limits())}, true},
		"larger limits":        {token.Opener{Ring: ring, Guard: guard(minutes(10*time.Minute, time.Minute))}, true},
		"lower TTL":            {token.Opener{Ring: ring, Guard: guard(minutes(time.Minute, time.Minute))}, false},
		"lower skew":           {token.Opener{Ring: ring, Guard: guard(minutes(10*time.Minute, time.Second))}, false},
		"guard without limits": {token.Opener{Ring: ring, Guard: &memory{}}, true},
	} {
		err := test.opener.Validate()
		assert.Equal(t, test.ok, err == nil, "%s: %v", name, err)
		if err != nil {
			assert.ErrorIs(t, err, token.ErrUnavailable, name)
		}
	}
	guarded := token.Opener{Ring: ring, Guard: guard(ring.Limits())}
	require.NoError(t, ring.SetPolicy(start, keyring.Policy{MaxTTL: 6 * time.Minute}))
	assert.Error(t, guarded.Validate(), "the policy was raised since")
}

// Room can't change the claims between their validation and the token.
func TestRoomCannotChangeTheClaims(t *testing.T) {
	env := tokentest.New(t)
	var c claims.Claims
	for name, change := range map[string]func(){
		"room":         func() { c.RoomIdentifier = strings.Repeat("not an ARN", 100) },
		"user":         func() { c.UserID = strings.Repeat("\xff", 20_000) },
		"capabilities": func() { c.Capabilities = 255 },
		"minutes":      func() { c.SessionMinutes = 300 },
		"attributes":   func() { c.Attributes["displayName"] = strings.Repeat("x", 5000) },
	} {
		sealer := env.Sealer
		sealer.Room = func(s string) bool {
			change()
			return claims.IsRoomARN(s)
		}
		c = tokentest.Claims()
		text, minted, err := sealer.Seal(nil, &c)
		require.NoError(t, err, name)
		require.LessOrEqual(t, len(text), token.MaxLen)
		var s token.Session
		require.NoError(t, env.Opener.Open(t.Context(), &s, string(text)), name)
		require.Equal(t, tokentest.Claims(), s.Claims(), name)
		require.Equal(t, minted.SessionExpiration, s.SessionExpiration(), name)
	}
}

// Open reads the field Guard once: a clock that sets it to nil gains nothing.
func TestGuardIsLookedUpOnce(t *testing.T) {
	env := tokentest.New(t)
	opener := env.Opener
	opener.Now = func() time.Time {
		opener.Guard = nil
		return env.Now()
	}
	text := env.Mint().Token
	var s token.Session
	require.NoError(t, opener.Open(t.Context(), &s, text))
	opener.Guard = env.Guard
	require.Equal(t, token.ErrSpent, opener.Open(t.Context(), &s, text))
	require.False(t, s.Spent())
}
