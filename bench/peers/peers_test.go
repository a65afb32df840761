package peers_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// eachPeer runs f for every peer. The time in f is its own.
func eachPeer(t *testing.T, f func(*testing.T, peer)) {
	for _, tt := range peers {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { f(t, tt.make(t)) })
		})
	}
}

func TestRoundTrip(t *testing.T) {
	eachPeer(t, func(t *testing.T, p peer) {
		for _, size := range sizes {
			var got grant
			require.NoError(t, p.verify(mint(t, p, size.grant), &got), size.name)
			assert.Equal(t, size.grant.stamped(time.Now()), got, size.name)
		}
	})
}

func TestForged(t *testing.T) {
	eachPeer(t, func(t *testing.T, p peer) {
		text := mint(t, p, sizes[0].grant)
		var g grant
		assert.Error(t, p.verify(forge(text), &g))
	})
}

// A peer that reads the clock only when it's made would accept the token.
func TestExpired(t *testing.T) {
	eachPeer(t, func(t *testing.T, p peer) {
		text := mint(t, p, sizes[0].grant)
		var g grant
		time.Sleep(lifetime - time.Second)
		require.NoError(t, p.verify(text, &g))
		time.Sleep(2 * time.Second)
		assert.Error(t, p.verify(text, &g))
	})
}
