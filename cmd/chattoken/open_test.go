package main

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/seed17cb2b26/chattoken/token"
)

func TestRefusal(t *testing.T) {
	assert.Equal(t, "refused: refused: banned", refusal(errors.New("banned")))
	for _, err := range []error{token.ErrRevokedKey, token.ErrPayload, token.ErrSpent, token.ErrNotPermitted} {
		assert.Contains(t, explanations, token.Reason(err))
	}
}
