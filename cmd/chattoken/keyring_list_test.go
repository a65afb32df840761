package main

import (
	"strings"
	"testing"
	"testing/cryptotest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/keyring"
)

// newRing returns a ring of two keys, which was made at testNow.
func newRing(t *testing.T) *keyring.Ring {
	t.Helper()
	r, err := keyring.New(testNow, keyring.Config{})
	require.NoError(t, err)
	return r
}

func TestListing(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	r := newRing(t)
	now := testNow.Add(30 * 24 * time.Hour)
	_, err := r.Rotate(now)
	require.NoError(t, err)
	for k := range r.Keys(now) {
		if k.State == keyring.Primary {
			require.NoError(t, r.Revoke(now, k.ID))
		}
	}

	text := table(r, now)
	golden(t, "keyring-list.text", text)
	for line := range strings.Lines(text) {
		assert.LessOrEqual(t, len(line), 81, line)
	}
	var out strings.Builder
	require.NoError(t, (&process{stdout: &out}).printJSON(listRing(r, now)))
	golden(t, "keyring-list.json", out.String())
}
