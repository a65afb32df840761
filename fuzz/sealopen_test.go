package fuzz_test

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/token"
	"github.com/seed17cb2b26/chattoken/token/tokentest"
)

// FuzzSealOpen mints tokens of any claims. Either the error names exactly the
// fields outside the limits, or the token opens, here and by the reference, to
// exactly those claims and deadlines.
func FuzzSealOpen(f *testing.F) {
	g := newGateway(f)
	sealer := token.Sealer{Ring: g.opener.Ring, Now: func() time.Time { return g.now }}
	f.Fuzz(func(t *testing.T, roomID, user string, capabilities uint8, attributes string, minutes int, ttl int64, ns int64, ownRooms bool) {
		g.now = after(ns)
		s := sealer
		s.TTL = time.Duration(ttl)
		if ownRooms {
			s.Room = anyRoom
		}
		c := claims.Claims{
			RoomIdentifier: roomID,
			UserID:         user,
			Capabilities:   claims.Capabilities(capabilities),
			Attributes:     parseAttributes(attributes),
			SessionMinutes: minutes,
		}
		minted, err := s.Create(c)
		bad := badFields(&c, ownRooms)
		validTTL := ttl == 0 || ttl >= int64(token.MinTTL) && ttl <= int64(token.MaxTTL) && ttl%int64(time.Second) == 0
		switch {
		case !validTTL || g.now.Unix() < 0 || g.now.Unix() > maxUnix:
			require.Error(t, err)
		case len(bad) > 0:
			require.Equal(t, bad, refusedFields(t, err))
		default:
			require.NoError(t, err)
			g.requireMinted(t, &s, c, minted)
			return
		}
		require.Zero(t, minted)
		dst, none, err := s.Seal([]byte("dst"), &c)
		require.Error(t, err)
		require.Zero(t, none)
		require.Equal(t, "dst", string(dst))
	})
}

// requireMinted checks a token that s minted from c.
func (g *gateway) requireMinted(t testing.TB, s *token.Sealer, c claims.Claims, minted token.ChatToken) {
	t.Helper()
	now := g.now
	if c.SessionMinutes == 0 {
		c.SessionMinutes = 60
	}
	if len(c.Attributes) == 0 {
		c.Attributes = nil
	}
	ttl := s.TTL
	if ttl == 0 {
		ttl = time.Minute
	}
	ttl = min(ttl, time.Duration(c.SessionMinutes)*time.Minute)
	floor := time.Unix(now.Unix(), 0).UTC()
	require.Equal(t, floor.Add(ttl), minted.TokenExpiration)
	require.Equal(t, floor.Add(time.Duration(c.SessionMinutes)*time.Minute), minted.SessionExpiration)

	p, _, err := g.document.open(testContext, minted.Token, now)
	require.NoError(t, err)
	require.Equal(t, c, p.claims())
	require.True(t, g.requireAsReference(t, minted.Token, now))
	require.True(t, g.requireAsReference(t, minted.Token, minted.TokenExpiration.Add(-1)))
	require.False(t, g.requireAsReference(t, minted.Token, minted.TokenExpiration))
}

var roomARN = regexp.MustCompile(`\Aarn:aws:ivschat:[a-z0-9-]+:[0-9]+:room/[a-zA-Z0-9-]+\z`)

// badFields returns the fields outside the limits, in the order of the request.
func badFields(c *claims.Claims, ownRooms bool) []string {
	var bad []string
	check := func(name string, ok bool) {
		if !ok {
			bad = append(bad, name)
		}
	}
	size, text, key := 0, true, true
	for k, v := range c.Attributes {
		size += len(k + v)
		text = text && utf8.ValidString(k) && utf8.ValidString(v)
		key = key && k != ""
	}
	user := len([]rune(c.UserID))
	check("roomIdentifier", len(c.RoomIdentifier) >= 1 && len(c.RoomIdentifier) <= 128 &&
		utf8.ValidString(c.RoomIdentifier) && (ownRooms || roomARN.MatchString(c.RoomIdentifier)))
	check("userId", utf8.ValidString(c.UserID) && user >= 1 && user <= 128)
	check("capabilities", c.Capabilities <= 7)
	check("attributes", size <= 1024 && text && key)
	check("sessionDurationInMinutes", c.SessionMinutes >= 0 && c.SessionMinutes <= 180)
	return bad
}

// parseAttributes reads keys and values, each after a byte that UTF-8 doesn't
// use, so that mutated text stays text. Other bytes make it invalid.
func parseAttributes(s string) map[string]string {
	words := strings.Split(s, "\xff")[1:]
	m := map[string]string{}
	for i := 0; i+1 < len(words); i += 2 {
		m[words[i]] = words[i+1]
	}
	return m
}

func formatAttributes(m ...string) string { return "\xff" + strings.Join(m, "\xff") }

func sealOpenSeeds(t testing.TB) []seed {
	longest := claimsOfSizes()[2]
	var many []string
	for _, k := range slices.Sorted(maps.Keys(longest.Attributes)) {
		many = append(many, k, "")
	}
	minute, overlong := int64(time.Minute), strings.Repeat("x", 1025)
	text := func(attributes string) []any {
		return args(tokentest.Room, "11231234", uint8(1), attributes, 30, minute, int64(0), false)
	}
	return []seed{
		{"example", text(formatAttributes("displayName", "DemoUser"))},
		{"defaults", args(tokentest.Room, "u", uint8(0), "", 0, int64(0), int64(0), false)},
		{"shortest", args("r", "u", uint8(0), "", 1, int64(5*time.Second), int64(0), true)},
		{"longest", args(longest.RoomIdentifier, longest.UserID, uint8(7), formatAttributes(many...), 180, 10*minute, int64(0), false)},
		{"all-wrong", args("lobby", "", uint8(8), formatAttributes("", "x"), 181, minute, int64(0), false)},
		{"not-utf8", args(tokentest.Room, "\xfe", uint8(0), formatAttributes("k", "\xfe"), -1, minute, int64(0), false)},
		{"sort-order", text(formatAttributes("b", "1", "aa", "2", "é", "3", "a", "4"))},
		{"attributes-1024", text(formatAttributes("k", overlong[:1023]))},
		{"attributes-1025", text(formatAttributes("k", overlong[:1024]))},
		{"attributes-24", text(formatAttributes("k", overlong[:23], "kk", overlong[:24]))},
		{"attributes-not-utf8", text(formatAttributes("k", "\xfe........."))},
		{"room-129", args(tokentest.Room+overlong[:129-len(tokentest.Room)], "u", uint8(1), "", 1, minute, int64(0), false)},
		{"room-path", args(tokentest.Room+"/", "u", uint8(1), "", 1, minute, int64(0), false)},
		{"odd-text", args("\x00", "\u202e\U0001F600", uint8(2), formatAttributes("\n", "\ufeff"), 5, minute, int64(0), true)},
		{"short-session", args(tokentest.Room, "u", uint8(1), "", 1, 10*minute, int64(0), false)},
		{"ttl-too-short", args(tokentest.Room, "u", uint8(1), "", 1, int64(4*time.Second), int64(0), false)},
		{"ttl-too-long", args(tokentest.Room, "u", uint8(1), "", 60, int64(601*time.Second), int64(0), false)},
		{"ttl-not-whole", args(tokentest.Room, "u", uint8(1), "", 60, minute+1, int64(0), false)},
		{"within-a-second", args(tokentest.Room, "u", uint8(1), "", 60, minute, int64(999_999_999), false)},
		{"before-1970", args(tokentest.Room, "u", uint8(1), "", 60, minute, -int64(100*365*24*time.Hour), false)},
		{"under-the-next-key", args(tokentest.Room, "u", uint8(1), "", 60, minute, int64(5*time.Minute), false)},
	}
}
