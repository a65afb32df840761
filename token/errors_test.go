package token_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/seed17cb2b26/chattoken/token"
)

func TestActionAndReason(t *testing.T) {
	tests := []struct {
		err    error
		advice token.Advice
		reason string
	}{
		{nil, 0, ""},
		{token.ErrMalformed, token.FetchNewToken, "malformed"},
		{token.ErrUnknownKey, token.FetchNewToken, "unknown-key"},
		{token.ErrRevokedKey, token.FetchNewToken, "revoked-key"},
		{token.ErrForged, token.FetchNewToken, "forged"},
		{token.ErrInvalid, token.FetchNewToken, "invalid"},
		{token.ErrPayload, token.FetchNewToken, "payload"},
		{token.ErrNotYetValid, token.FetchNewToken, "not-yet-valid"},
		{token.ErrTokenExpired, token.FetchNewToken, "expired"},
		{token.ErrSpent, token.FetchNewToken, "spent"},
		{token.ErrRevoked, token.FetchNewTokenLater, "revoked"},
		{token.ErrAllRevoked, token.FetchNewTokenLater, "all-revoked"},
		{fmt.Errorf("wrapped: %w", token.ErrAllRevoked), token.FetchNewTokenLater, "all-revoked"},
		{token.ErrUnavailable, token.TryLater, "unavailable"},
		{down{}, token.TryLater, "unavailable"},
		{fmt.Errorf("wrapped: %w", token.ErrUnavailable), token.TryLater, "unavailable"},
		{token.ErrSessionExpired, token.FetchNewToken, "session-expired"},
		{token.ErrNotPermitted, token.GiveUp, "not-permitted"},
		{context.Canceled, token.TryLater, "canceled"},
		{context.DeadlineExceeded, token.TryLater, "canceled"},
		{errors.New("banned"), token.GiveUp, "refused"},
	}
	for _, test := range tests {
		assert.Equal(t, test.advice, token.Action(test.err), "%v", test.err)
		assert.Equal(t, test.reason, token.Reason(test.err), "%v", test.err)
	}
	for advice, status := range map[token.Advice]int{0: 200, token.FetchNewToken: 401, token.FetchNewTokenLater: 401, token.GiveUp: 403, token.TryLater: 503, 9: 403} {
		assert.Equal(t, status, advice.HTTPStatus())
	}
	for advice, code := range map[token.Advice]int{0: 1000, token.FetchNewToken: 4401, token.FetchNewTokenLater: 4401, token.GiveUp: 4403, token.TryLater: 1013, 9: 4403} {
		assert.Equal(t, code, advice.CloseCode())
	}
	assert.Equal(t, "none fetch-new-token fetch-new-token-later give-up try-later give-up",
		fmt.Sprint(token.Advice(0), token.FetchNewToken, token.FetchNewTokenLater, token.GiveUp, token.TryLater, token.Advice(9)))
}

// A stranger sees one text, an operator sees the kind.
func TestInvalidHasOneText(t *testing.T) {
	kinds := []error{token.ErrMalformed, token.ErrUnknownKey, token.ErrRevokedKey, token.ErrForged}
	for _, kind := range kinds {
		assert.ErrorIs(t, kind, token.ErrInvalid)
		assert.Equal(t, "token: invalid", kind.Error())
		for _, other := range kinds {
			assert.Equal(t, kind == other, errors.Is(kind, other))
		}
	}
	for _, other := range []error{token.ErrPayload, token.ErrNotYetValid, token.ErrTokenExpired, token.ErrSpent, token.ErrRevoked, token.ErrAllRevoked, token.ErrUnavailable} {
		assert.NotErrorIs(t, other, token.ErrInvalid)
	}
}
