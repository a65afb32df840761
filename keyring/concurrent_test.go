package keyring_test

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/keyring"
)

// The ring rotates every millisecond while 64 goroutines seal and open. What is
// refused must be older than a token can be.
func TestRotationUnderLoad(t *testing.T) {
	policy := keyring.Policy{MaxTTL: 600 * second, ClockSkew: second, Period: 2 * second, Lead: 2 * second}
	r, err := keyring.New(start, keyring.Config{Policy: policy})
	require.NoError(t, err)
	var ticks, opened atomic.Int64
	var done atomic.Bool
	clock := func() time.Time { return start.Add(time.Duration(ticks.Load()) * policy.Period) }
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for !done.Load() {
				issued := clock()
				box, err := r.Box(nil, []byte("plaintext"), issued)
				if err == nil {
					_, err = r.Unbox(nil, box, clock())
				}
				if err != nil && clock().Before(issued.Add(policy.MaxTTL)) {
					t.Errorf("sealed at %v, refused at %v: %v", issued, clock(), err)
					return
				}
				opened.Add(1)
				runtime.Gosched() // let the rotations run
			}
		})
	}
	const rotations = 1000
	for range rotations {
		ticks.Add(1)
		changed, err := r.Rotate(clock())
		require.NoError(t, err)
		require.True(t, changed)
		time.Sleep(time.Millisecond)
	}
	done.Store(true)
	wg.Wait()
	require.EqualValues(t, 1+rotations, r.Serial())
	require.NotZero(t, opened.Load())
}

// The primary is revoked over and over. There is always a key to seal with, and
// a box is refused only because its key was revoked.
func TestRevocationUnderLoad(t *testing.T) {
	r := newRing(t, start)
	var done atomic.Bool
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for !done.Load() {
				box, err := r.Box(nil, nil, start)
				if err == nil {
					_, err = r.Unbox(nil, box, start)
				}
				if err != nil && err != keyring.ErrRevokedKey {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 200 {
		require.NoError(t, r.Revoke(start, sealer(t, r, start)))
	}
	done.Store(true)
	wg.Wait()
	require.EqualValues(t, 201, r.Serial())
}

func TestConcurrentChanges(t *testing.T) {
	r := newRing(t, start)
	kek := newKEK(t)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				r.Revoke(start, keys(r, start)[1].ID)
				b, err := r.Marshal(t.Context(), kek)
				if err == nil {
					_, err = r.Update(t.Context(), kek, b)
				}
				if err != nil && err != keyring.ErrRollback {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	clone(t, r)
}
