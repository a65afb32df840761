package token_test

import (
	"context"
	"errors"
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

func TestNoAllocs(t *testing.T) {
	testenv.SkipAllocs(t)
	h := newFixture(t)
	accept := guardFunc(func(context.Context, time.Time, token.Summary) (bool, error) { return true, nil })
	spent := guardFunc(func(context.Context, time.Time, token.Summary) (bool, error) { return false, nil })
	refusal := errors.New("refused")
	ctx := context.Background()
	small, big := tokentest.Claims(), testenv.LongestClaims()
	smallText, bigText := h.mint(t, small), h.mint(t, big)
	flip := func(i int) string {
		b := unspell(t, smallText)
		b[i] ^= 1
		return spell(b)
	}
	unknown, forged := flip(4), flip(40)
	h.now = start.Add(-time.Hour)
	expired := h.mint(t, small)
	h.now = start.Add(time.Hour)
	future := h.mint(t, small)
	h.now = start
	payload := h.sealPayload(t, []byte(strings.Repeat("x", 100)))
	oversized := strings.Repeat("A", 1<<20)

	dst := make([]byte, 0, token.MaxLen)
	var reused token.Session
	require.NoError(t, h.opener.OpenWithoutSpending(ctx, &reused, bigText))
	var err error
	size := 0
	open := func(s *token.Session, guard token.Guard, text string) func() {
		o := h.opener
		o.Guard = guard
		return func() { err = o.Open(ctx, s, text) }
	}
	fresh := func(guard token.Guard, text string) func() {
		o := h.opener
		o.Guard = guard
		return func() {
			var s token.Session
			err = o.Open(ctx, &s, text)
		}
	}
	admitting := h.opener
	admitting.Admit = func(context.Context, time.Time, token.Summary) error { return refusal }
	revoking := h.opener
	revoking.Guard = &memory{revoked: func(token.Summary) error { return token.ErrRevoked }}

	tests := []struct {
		name string
		do   func()
		want error
		max  float64
	}{
		{"Seal", func() { dst, _, err = h.sealer.Seal(dst[:0], &small) }, nil, 0},
		{"Seal/longest", func() { dst, _, err = h.sealer.Seal(dst[:0], &big) }, nil, 0},
		{"Create", func() { _, err = h.sealer.Create(small) }, nil, 1},
		{"Open/reused", open(&reused, accept, smallText), nil, 0},
		{"Open/reused/longest", open(&reused, accept, bigText), nil, 0},
		{"Open/fresh", fresh(accept, smallText), nil, 1},
		{"Open/fresh/longest", fresh(accept, bigText), nil, 1},
		{"refused/empty", fresh(accept, ""), token.ErrMalformed, 0},
		{"refused/malformed", fresh(accept, smallText+"="), token.ErrMalformed, 0},
		{"refused/oversized", fresh(accept, oversized), token.ErrMalformed, 0},
		{"refused/unknown key", fresh(accept, unknown), token.ErrUnknownKey, 0},
		{"refused/forged", fresh(accept, forged), token.ErrForged, 0},
		{"refused/payload", fresh(accept, payload), token.ErrPayload, 0},
		{"refused/expired", fresh(accept, expired), token.ErrTokenExpired, 0},
		{"refused/future", fresh(accept, future), token.ErrNotYetValid, 0},
		{"refused/spent", open(&reused, spent, smallText), token.ErrSpent, 0},
		{"refused/spent/fresh Session", fresh(spent, smallText), token.ErrSpent, 1},
		{"refused/Admit", func() { err = admitting.Open(ctx, &reused, smallText) }, refusal, 0},
		{"refused/Revoked", func() { err = revoking.Open(ctx, &reused, smallText) }, token.ErrRevoked, 0},
		{"Authorize", func() { err = reused.Authorize(start, claims.SendMessage) }, nil, 0},
		{"accessors", func() {
			size += len(reused.UserID()) + len(reused.RoomIdentifier())
			_, _ = reused.Attribute("displayName")
			for k, v := range reused.Attributes() {
				size += len(k) + len(v)
			}
			_, err = reused.Summary(), error(nil)
		}, nil, 0},
		{"Action", func() { _, err = token.Action(token.ErrForged), error(nil) }, nil, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if test.name == "Authorize" || test.name == "accessors" {
				open(&reused, accept, smallText)()
				require.NoError(t, err)
			}
			got := testing.AllocsPerRun(100, test.do)
			require.Equal(t, test.want, err)
			assert.LessOrEqual(t, got, test.max)
		})
	}
}
