package token_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/internal/testenv"
	"github.com/seed17cb2b26/chattoken/token"
	"github.com/seed17cb2b26/chattoken/token/tokentest"
)

func opened(t testing.TB, c claims.Claims) (*fixture, *token.Session) {
	t.Helper()
	f := newFixture(t)
	s := new(token.Session)
	require.NoError(t, f.opener.Open(t.Context(), s, f.mint(t, c)))
	return f, s
}

func TestSessionAccessors(t *testing.T) {
	_, s := opened(t, tokentest.Claims())
	assert.Equal(t, tokentest.Room, string(s.RoomIdentifier()))
	assert.Equal(t, "11231234", string(s.UserID()))
	assert.Equal(t, claims.SendMessage, s.Capabilities())
	name, ok := s.Attribute("displayName")
	assert.True(t, ok)
	assert.Equal(t, "DemoUser", string(name))
	_, ok = s.Attribute("displayname")
	assert.False(t, ok)
	for k, v := range s.Attributes() {
		assert.Equal(t, "displayName=DemoUser", string(k)+"="+string(v))
	}
	assert.NotZero(t, s.TokenID())
	assert.Equal(t, s.TokenID(), s.Summary().TokenID)
}

func TestAuthorize(t *testing.T) {
	c := tokentest.Claims()
	c.Capabilities = claims.SendMessage | claims.DeleteMessage
	_, s := opened(t, c)
	end := s.SessionExpiration()
	assert.Equal(t, start.Truncate(time.Second).Add(30*time.Minute), end)
	for want := range claims.Capabilities(255) {
		allowed := want != 0 && c.Capabilities|want == c.Capabilities
		for _, now := range []time.Time{{}, time.Unix(0, 0), start, end.Add(-1)} {
			err := s.Authorize(now, want)
			assert.False(t, s.Expired(now))
			if allowed {
				assert.NoError(t, err)
			} else {
				assert.Equal(t, token.ErrNotPermitted, err)
			}
		}
		for _, now := range []time.Time{end, end.Add(1), end.Add(1 << 62), time.Unix(1<<62, 0)} {
			assert.Equal(t, token.ErrSessionExpired, s.Authorize(now, want))
			assert.True(t, s.Expired(now))
		}
	}
	var zero token.Session
	requireZero(t, &zero)
}

// Neither the text, the pool, nor another Session changes a Session's claims.
func TestSessionOwnsItsMemory(t *testing.T) {
	f, first := opened(t, tokentest.Claims())
	clone := first.Clone()
	other := tokentest.Claims()
	other.UserID = "somebody else"
	for range 100 {
		var s token.Session
		require.NoError(t, f.opener.Open(t.Context(), &s, f.mint(t, other)))
		f.requireRefused(t, token.ErrInvalid, "ct1_"+strings.Repeat("B", 200))
	}
	assert.Equal(t, tokentest.Claims(), first.Claims())
	summary := first.Summary()
	assert.Equal(t, summary, clone.Summary())
	first.Reset()
	requireZero(t, first)
	assert.NotEqual(t, "11231234", string(summary.UserID), "the view is cleared")
	assert.Equal(t, tokentest.Claims(), clone.Claims(), "a clone shares nothing")
	requireZero(t, (&token.Session{}).Clone())
}

// A reused Session shows nothing of the earlier token.
func TestSessionReused(t *testing.T) {
	f, s := opened(t, testenv.LongestClaims())
	view := s.UserID()
	small := tokentest.Claims()
	require.NoError(t, f.opener.Open(t.Context(), s, f.mint(t, small)))
	assert.Equal(t, small, s.Claims())
	assert.NotContains(t, string(view[200:]), "\U0010FFFF", "the rest is cleared")
	require.NoError(t, f.opener.Open(t.Context(), s, f.mint(t, testenv.LongestClaims())))
	assert.Equal(t, testenv.LongestClaims(), s.Claims())
}

func TestSessionMemoryFollowsTheToken(t *testing.T) {
	testenv.SkipAllocs(t)
	f := newFixture(t)
	small, big := f.mint(t, tokentest.Claims()), f.mint(t, testenv.LongestClaims())
	size := func(text string) uint64 {
		const sessions = 100
		kept := make([]token.Session, sessions)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for i := range kept {
			require.NoError(t, f.opener.OpenWithoutSpending(t.Context(), &kept[i], text))
		}
		runtime.ReadMemStats(&after)
		return (after.TotalAlloc - before.TotalAlloc) / sessions
	}
	// Measure ten times and take the least: after a collection, or on
	// another processor, the pool is empty.
	least := func(text string) uint64 {
		n := size(text)
		for range 9 {
			n = min(n, size(text))
		}
		return n
	}
	assert.LessOrEqual(t, least(small), uint64(len(small)))
	assert.LessOrEqual(t, least(big), uint64(len(big)))
}

func TestSessionRedaction(t *testing.T) {
	_, s := opened(t, tokentest.Claims())
	secrets := []string{"11231234", "DemoUser", "displayName", "g1H2I3j4k5L6", fmt.Sprint([]byte("DemoUser"))[1:20]}
	var texts []string
	for _, verb := range strings.Split("v +v #v s q x X d o b t T", " ") {
		texts = append(texts, fmt.Sprintf("%"+verb, s), fmt.Sprintf("%-080"+verb, s),
			fmt.Sprintf("%"+verb, []*token.Session{s}), fmt.Sprintf("%"+verb, map[string]any{"s": s}),
			fmt.Sprintf("%"+verb, struct{ S *token.Session }{s}))
	}
	var out bytes.Buffer
	slog.New(slog.NewTextHandler(&out, nil)).Info("opened", "session", s, "list", []*token.Session{s})
	slog.New(slog.NewJSONHandler(&out, nil)).Info("opened", "session", s, "list", []*token.Session{s})
	texts = append(texts, out.String())
	for _, text := range texts {
		for _, secret := range secrets {
			require.NotContains(t, text, secret)
		}
	}
	assert.Contains(t, texts[0], s.TokenID().String())
	assert.Contains(t, texts[0], "2022-03-16T04:43:09Z")
	assert.Contains(t, out.String(), s.TokenID().String())

	assert.Equal(t, "token.Session(zero)", fmt.Sprint(new(token.Session)))
	assert.Equal(t, "token.Session(zero)", fmt.Sprint((*token.Session)(nil)))
	out.Reset()
	slog.New(slog.NewTextHandler(&out, nil)).Info("", "a", new(token.Session), "b", (*token.Session)(nil))
	assert.Contains(t, out.String(), "a=zero b=zero")
}
