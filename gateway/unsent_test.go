package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/gateway"
	"github.com/seed17cb2b26/chattoken/token"
)

// poisoned never has room for single tokens. For other targets it may be down.
type poisoned struct {
	gateway.Guard
	down atomic.Bool
}

func (g *poisoned) Revoke(ctx context.Context, t token.Target, before time.Time) error {
	if t.Token != (token.ID{}) || g.down.Load() {
		return token.Unavailable("full")
	}
	return g.Guard.Revoke(ctx, t, before)
}

// Revocations that always fail don't block others. Run gives them up once they
// can't matter.
func TestUnsentTakesTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newStillHouse(t)
		poison := &poisoned{Guard: h.Guard}
		poison.down.Store(true)
		h.guard.Guard = poison
		h.run(t)
		for i := range 1000 {
			require.Error(t, h.Revoke(t.Context(), token.Target{Token: token.ID{1, byte(i), byte(i >> 8)}}, ""))
		}
		require.Error(t, h.Revoke(t.Context(), token.Target{User: "banned"}, ""))
		poison.down.Store(false)
		pass(40 * time.Second)
		require.Equal(t, 1000, h.Stats().Unsent)
		pass(3*time.Hour + 2*time.Minute)
		require.Zero(t, h.Stats().Unsent)
		h.stop()
		<-h.ran
	})
}

// Revoke's error says if Run won't repeat the call.
func TestNotRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		for _, err := range []error{token.Unavailable("down"), context.DeadlineExceeded, context.Canceled} {
			h.guard.revokeErr.Store(&err)
			require.Equal(t, err, h.Revoke(t.Context(), token.Target{User: err.Error()}, ""))
		}
		require.Equal(t, 3, h.Stats().Unsent)
		own := errors.New("never")
		h.guard.revokeErr.Store(&own)
		err := h.Revoke(t.Context(), token.Target{User: "a"}, "")
		require.ErrorIs(t, err, own)
		require.ErrorIs(t, err, gateway.ErrNotRepeated)
		require.Equal(t, 3, h.Stats().Unsent)
		pass(2 * time.Second)
		require.Zero(t, h.Stats().Unsent, "it is not repeated when it fails like that later either")

		down := token.Unavailable("down")
		h.guard.revokeErr.Store(&down)
		lost := 0
		for i := range 5000 {
			if err := h.Revoke(t.Context(), token.Target{User: fmt.Sprint(i)}, ""); errors.Is(err, gateway.ErrNotRepeated) {
				lost++
			}
		}
		require.Equal(t, 5000-4096, lost)
		require.Equal(t, 4096, h.Stats().Unsent)
		h.guard.revokeErr.Store(nil)
		pass(2 * time.Second)
		require.Zero(t, h.Stats().Unsent)
		h.stop()
		<-h.ran
	})
}

// stuck answers no Revoke until released.
type stuck struct {
	gateway.Guard
	free chan bool
	on   atomic.Bool
}

func (g *stuck) Revoke(ctx context.Context, t token.Target, before time.Time) error {
	if g.on.Load() {
		<-g.free
	}
	return token.Unavailable("down")
}

// A server that doesn't answer repeated calls doesn't hold up the news.
func TestUnsentHoldsUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newStillHouse(t)
		server := &stuck{Guard: h.Guard, free: make(chan bool)}
		h.guard.Guard = server
		h.run(t)
		require.Error(t, h.Revoke(t.Context(), token.Target{User: "a"}, ""))
		server.on.Store(true)
		pass(90 * time.Second)
		require.NoError(t, h.Ready(h.Now()))
		server.on.Store(false)
		close(server.free)
		h.stop()
		<-h.ran
	})
}
