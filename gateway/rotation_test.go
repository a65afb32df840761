package gateway_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/gateway"
	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/replay"
	"github.com/seed17cb2b26/chattoken/token"
	"github.com/seed17cb2b26/chattoken/token/tokentest"
)

// keyOf is the ID of the key that a token names.
func keyOf(t testing.TB, text string) (id keyring.ID) {
	t.Helper()
	data, err := base64.RawURLEncoding.DecodeString(text[len(token.Prefix):])
	require.NoError(t, err)
	copy(id[:], data)
	return id
}

// hosts are a rotator, an issuer and a gateway. They share a file.
type hosts struct {
	*gateway.Gateway
	file    keyring.File
	ring    *keyring.Ring // of the host that rotates
	issuer  *keyring.Follower
	long    atomic.Bool  // whether the issuer mints longer tokens than the first policy allowed
	revoked atomic.Value // the keyring.ID that is revoked
}

// newHosts starts them. An unexpected refusal fails the test.
func newHosts(t *testing.T, limits keyring.Limits) *hosts {
	t.Helper()
	kek, err := keyring.GenerateKEK()
	require.NoError(t, err)
	h := &hosts{file: keyring.File{
		Name: filepath.Join(t.TempDir(), "keyring"), KEK: kek,
		Config: keyring.Config{Policy: keyring.Policy{Period: 7 * time.Minute, Lead: 2 * time.Minute}},
	}}
	h.ring, err = h.file.Create(t.Context(), time.Now())
	require.NoError(t, err)
	h.issuer, err = h.file.Follow(t.Context(), time.Now())
	require.NoError(t, err)
	keys, err := h.file.Follow(t.Context(), time.Now())
	require.NoError(t, err)
	guard, err := replay.New(replay.Config{Limits: limits})
	require.NoError(t, err)
	h.Gateway, err = gateway.New(gateway.Config{Keys: keys, Guard: guard})
	require.NoError(t, err)
	return h
}

// run runs the hosts until ctx ends.
func (h *hosts) run(ctx context.Context, t *testing.T) {
	go h.Run(ctx)
	go func() {
		for tick := time.Tick(10 * time.Second); ; {
			select {
			case now := <-tick:
				_, err := h.issuer.Refresh(ctx, now)
				assert.NoError(t, err)
			case <-ctx.Done():
				return
			}
		}
	}()
	time.Sleep(10 * time.Second) // the guard is ready
}

// change changes the ring and saves it, unless it is too soon for that.
func (h *hosts) change(t *testing.T, f func() error) (changed bool) {
	err := f()
	if errors.Is(err, keyring.ErrTooSoon) {
		return false
	}
	require.NoError(t, err)
	require.NoError(t, h.file.Save(t.Context(), h.ring))
	return true
}

// client comes and goes until the given time, and reports how often.
func (h *hosts) client(t *testing.T, name string, seed uint64, until time.Time) (entered, excused int) {
	rng := rand.New(rand.NewPCG(seed, 0))
	ahead := time.Duration(rng.IntN(9000)-4500) * time.Millisecond // of its issuer's clock
	for time.Sleep(pause(rng, 60)); time.Now().Before(until); time.Sleep(pause(rng, 60)) {
		sealer := token.Sealer{Ring: h.issuer.Ring(), Now: func() time.Time { return time.Now().Add(ahead) }}
		if h.long.Load() {
			sealer.TTL = 4 * time.Minute
		}
		c := tokentest.Claims()
		c.UserID = name
		minted, err := sealer.Create(c)
		if !assert.NoError(t, err) {
			continue
		}
		time.Sleep(pause(rng, int(time.Until(minted.TokenExpiration)/time.Second)-1))
		p, err := h.Enter(newWriter(), handshake(minted.Token))
		switch {
		case err == nil:
			entered++
			time.Sleep(pause(rng, 30))
			assert.NoError(t, p.Authorize(claims.SendMessage))
			p.Leave()
		case errors.Is(err, token.ErrRevokedKey) && keyOf(t, minted.Token) == h.revoked.Load():
			excused++
		default:
			assert.NoError(t, errors.Unwrap(err))
		}
	}
	return entered, excused
}

// pause waits for up to so many seconds.
func pause(rng *rand.Rand, seconds int) time.Duration {
	return time.Duration(rng.Int64N(int64(max(seconds, 1)) * int64(time.Second)))
}

// Rotation, a revoked key and a raised policy refuse no honest client, except
// the tokens of the revoked key.
func TestKeysChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHosts(t, keyring.Limits{MaxTTL: 5 * time.Minute, ClockSkew: 5 * time.Second}) // made before the policy is raised
		h.revoked.Store(keyring.ID{})
		ctx, stop := context.WithCancel(t.Context())
		h.run(ctx, t)
		clients := 1000
		if testing.Short() {
			clients = 100
		}
		until := time.Now().Add(45 * time.Minute)
		var entered, excused atomic.Int64
		var wg sync.WaitGroup
		for i := range clients {
			wg.Go(func() {
				in, out := h.client(t, fmt.Sprint("user ", i), uint64(i), until)
				entered.Add(int64(in))
				excused.Add(int64(out))
			})
		}
		rotate := func() error { _, err := h.ring.Rotate(time.Now()); return err }
		raise := func() error { return h.ring.SetPolicy(time.Now(), keyring.Policy{MaxTTL: 5 * time.Minute}) }
		raised := false
		for minute := 0; time.Now().Before(until); minute++ {
			require.True(t, h.change(t, rotate))
			if minute == 15 {
				for key := range h.ring.Keys(time.Now()) {
					if key.State == keyring.Primary {
						h.revoked.Store(key.ID)
						require.True(t, h.change(t, func() error { return h.ring.Revoke(time.Now(), key.ID) }))
						break
					}
				}
			}
			h.long.Store(raised) // every host has heard of it
			raised = raised || minute > 20 && h.change(t, raise)
			time.Sleep(time.Minute)
		}
		wg.Wait()
		t.Logf("%d entered, %d had a token of the key that was revoked", entered.Load(), excused.Load())
		require.Greater(t, entered.Load(), int64(clients*20))
		require.NotZero(t, excused.Load())
		require.True(t, h.long.Load())
		require.NoError(t, h.Ready(time.Now()))
		require.Greater(t, h.ring.Serial(), uint64(5))
		stop()
		synctest.Wait()
	})
}

// After a raised policy, Ready notices a guard with lower limits. The guard
// goes on for tokens within its own.
func TestPolicyRaisedTooSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHosts(t, keyring.Limits{MaxTTL: time.Minute, ClockSkew: 5 * time.Second})
		ctx, stop := context.WithCancel(t.Context())
		h.run(ctx, t)
		require.NoError(t, h.Ready(time.Now()))
		h.change(t, func() error { return h.ring.SetPolicy(time.Now(), keyring.Policy{MaxTTL: 5 * time.Minute}) })
		time.Sleep(21 * time.Second)
		require.ErrorContains(t, h.Ready(time.Now()), "limits")
		until := time.Now().Add(10 * time.Minute)
		entered, _ := h.client(t, "alice", 1, until)
		require.NotZero(t, entered)
		stop()
		synctest.Wait()
	})
}
